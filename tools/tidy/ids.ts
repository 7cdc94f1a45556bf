// Arithmetic on ids: src/core/model/ids.ts alone knows the factors.
import ts from 'typescript';
import { type Source, withoutComments } from './source.ts';

/** Factors of ids next to arithmetic, in SQL and in the program. */
export function checkIdLiterals({ file, text }: Source): string[] {
  if (file === 'src/core/model/ids.ts') return [];
  const complaints: string[] = [];
  const complain = (node: ts.Node) =>
    complaints.push(`${file}: src/core/model/ids.ts does arithmetic on ids: ${node.getText().trim().replace(/\s+/g, ' ').slice(0, 80)}`);
  const isFactor = (node: ts.Node) => (ts.isNumericLiteral(node) || ts.isBigIntLiteral(node)) && idFactor.test(node.text);
  const visit = (node: ts.Node): void => {
    if (ts.isTaggedTemplateExpression(node) && /\bsql(\(\))?$/i.test(node.tag.getText())) {
      if (idFactorInSql.test(withoutComments(node.template.getText()))) complain(node.template);
    } else if (ts.isBinaryExpression(node) && /^[*/%+-]=?$/.test(node.operatorToken.getText())) {
      // A plain number on the left is a size: 64 * 1024.
      if (isFactor(node.right) || (ts.isBigIntLiteral(node.left) && isFactor(node.left))) complain(node);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.ES2023, true));
  return complaints;
}

const idFactor = /^(32768|32767|512|511|64|63)n?$/;
const idFactorInSql = /[*/%+]\s*(32768|32767|512|511|64|63)\b/;
