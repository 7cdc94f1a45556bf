/** Says what is wrong with a value that does not fit its schema, as the management API says it: the path, a colon, and what is allowed. */
import type { TLocalizedValidationError } from 'typebox/error';

/**
 * The first of these errors of a schema, after its path: `settings.spId: must match pattern …`. `whole` stands for the path where the
 * value itself is wrong.
 */
export function explain(errors: readonly TLocalizedValidationError[], whole: string): string {
  const first = errors.find(({ keyword }) => keyword !== 'boolean');
  if (!first) return `${whole}: not as it should be`;
  const path = pathOf(first.instancePath);
  switch (first.keyword) {
    case 'additionalProperties':
      return `${first.params.additionalProperties.map((name) => joinPath(path, name)).join(', ')}: unknown here`;
    case 'required':
      return `${first.params.requiredProperties.map((name) => joinPath(path, name)).join(', ')}: required`;
    case 'enum':
      return `${path}: must be one of ${first.params.allowedValues.map(String).join(', ')}`;
    default: {
      // The alternatives of a union fail one after the other, at the same place.
      const reasons = errors.filter(({ instancePath, keyword }) => instancePath === first.instancePath && keyword !== 'anyOf');
      return `${path || whole}: ${[...new Set(reasons.map(({ message }) => message))].join(' or ')}`;
    }
  }
}

/** `/numbers/3` → `numbers[3]`, as the core writes its paths. */
function pathOf(pointer: string): string {
  const parts = pointer.split('/').slice(1);
  return parts.reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : joinPath(path, part)), '');
}

export const joinPath = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);
