// Reads TypeScript for the checks: what a file imports, whether it reads the environment, its texts, and its SQL.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { packageRoot } from '../../src/std/package-root.ts';

export interface Source {
  /** Relative to the package, with slashes. */
  file: string;
  text: string;
}

interface Import {
  from: string;
  /** What is imported by value; types vanish. `*` stands for everything. */
  names: string[];
  /** It is loaded when somebody asks for it. */
  isLazy: boolean;
}

export interface Parsed {
  file: string;
  imports: Import[];
  readsEnvironment: boolean;
  /** The words in quotes and templates, imports left out. */
  texts: string[];
  /** SQL with `?` for every value. Fragments that the same file declares are filled in, and stand on their own as well. */
  statements: string[];
  /** Which of the statements are handed to `unsafe`. */
  unsafe: string[];
}

export const isUnitTest = (file: string) => file.endsWith('.test.ts');
export const isTest = (file: string) => isUnitTest(file) || file.startsWith('test/');
export const isIn = (file: string, place: string) => file === place || file.startsWith(place.endsWith('/') ? place : `${place}/`);

/** Where an import leads inside the package; undefined for packages. */
export function resolve(file: string, from: string): string | undefined {
  return from.startsWith('.') ? path.posix.join(path.posix.dirname(file), from) : undefined;
}

export const withoutComments = (sql: string) => sql.replace(/--[^\n]*/g, '').replace(/\/\*[\s\S]*?\*\//g, '');

export function parse({ file, text }: Source): Parsed {
  const parsed: Parsed = { file, imports: [], readsEnvironment: false, texts: [], statements: [], unsafe: [] };
  const root = ts.createSourceFile(file, text, ts.ScriptTarget.ES2023, true);
  const fragments = declaredFragments(root);
  const visit = (node: ts.Node): void => {
    if (
      (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) &&
      node.moduleSpecifier &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      parsed.imports.push({ from: node.moduleSpecifier.text, names: importedNames(node), isLazy: false });
      return;
    }
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [specifier] = node.arguments;
      if (specifier && ts.isStringLiteralLike(specifier)) parsed.imports.push({ from: specifier.text, names: ['*'], isLazy: true });
      return;
    }
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) parsed.texts.push(node.text);
    if (ts.isPropertyAccessExpression(node) && node.name.text === 'env' && node.expression.getText() === 'process')
      parsed.readsEnvironment = true;
    else if (isStatement(node)) parsed.statements.push(withoutComments(templateText(node.template, fragments)));
    else if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && node.expression.name.text === 'unsafe') {
      const [statement] = node.arguments;
      if (statement && (ts.isTemplateExpression(statement) || ts.isStringLiteralLike(statement)))
        parsed.unsafe.push(withoutComments(templateText(statement, fragments)));
    }
    ts.forEachChild(node, visit);
  };
  visit(root);
  parsed.statements.push(...parsed.unsafe);
  return parsed;
}

const isStatement = (node: ts.Node): node is ts.TaggedTemplateExpression =>
  ts.isTaggedTemplateExpression(node) && /(^|\.)sql$/i.test(node.tag.getText());

function importedNames(node: ts.ImportDeclaration | ts.ExportDeclaration): string[] {
  if (ts.isExportDeclaration(node)) return node.isTypeOnly ? [] : ['*'];
  const clause = node.importClause;
  if (!clause) return ['*'];
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return [];
  const bindings = clause.namedBindings;
  const named = bindings && ts.isNamedImports(bindings) ? bindings.elements.filter((element) => !element.isTypeOnly) : [];
  return [
    ...(clause.name || (bindings && ts.isNamespaceImport(bindings)) ? ['*'] : []),
    ...named.map((element) => (element.propertyName ?? element.name).text),
  ];
}

/** Fragments by the names that a file gives them: `const x = sql…` and `const x = () => sql…`. A name given twice is left out. */
type Fragments = ReadonlyMap<string, ts.TaggedTemplateExpression>;

function declaredFragments(root: ts.Node): Fragments {
  const found = new Map<string, ts.TaggedTemplateExpression>();
  const declared = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name) && node.initializer) {
      const name = node.name.text;
      const { initializer } = node;
      const value = ts.isArrowFunction(initializer) ? initializer.body : initializer;
      if (isStatement(value) && !declared.has(name)) found.set(name, value);
      else found.delete(name);
      declared.add(name);
    }
    ts.forEachChild(node, visit);
  };
  visit(root);
  return found;
}

function templateText(node: ts.TemplateLiteral | ts.StringLiteralLike, fragments: Fragments, depth = 0): string {
  if (!ts.isTemplateExpression(node)) return node.text;
  const spans = node.templateSpans.map(({ expression, literal }) => `${valueText(expression, fragments, depth)}${literal.text}`);
  return `${node.head.text}${spans.join('')}`;
}

function valueText(value: ts.Expression, fragments: Fragments, depth: number): string {
  const name = ts.isCallExpression(value) ? value.expression : value;
  const fragment = isStatement(value) ? value : ts.isIdentifier(name) ? fragments.get(name.text) : undefined;
  return fragment && depth < 5 ? templateText(fragment.template, fragments, depth + 1) : '?';
}

// ── the files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const read = (file: string): Source => ({ file, text: readFileSync(path.join(packageRoot(), file), 'utf8') });

/** What git tracks, or would if it were added; without git (a tarball), nothing to check. */
export function trackedFiles(): string[] {
  if (!existsSync(path.join(packageRoot(), '.git'))) return [];
  const list = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: packageRoot(), encoding: 'utf8' });
  return list.split('\n').filter((file) => file !== '' && existsSync(path.join(packageRoot(), file)));
}
