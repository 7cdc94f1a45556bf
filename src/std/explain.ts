/** Explains why a value does not fit its schema, in the form of the management API: the path, a colon, and what is allowed. */
import type { TLocalizedValidationError } from 'typebox/error';

/**
 * Explains the first of these errors, after its path: `settings.spId: must match pattern …`. If the whole value is wrong, `whole` stands
 * for the path.
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
      // Each alternative of a union gives an error of its own at the same path.
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
