/** What is known of numbers: where they are, who ported them, which lists they are on. */
import { Type } from 'typebox';
import { blocklistKind } from './blocklists.ts';
import { configId, file, named, nullable, optional, page, phone, place, ref, strict, time } from './bricks.ts';

const mainlandCarrier = Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast']);
export const numberParams = Type.Object({ number: phone });
const portedSource = Type.Enum(['import', 'learned']);
export const portedNumberSchema = named('PortedNumber', {
  phone: Type.String(),
  carrier: nullable(Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast'], { description: 'As imported; null: nobody has said.' })),
  notCarriers: Type.Array(mainlandCarrier, { description: 'Who has said that it is not theirs.' }),
  source: portedSource,
  changedAt: time,
});
export const portedQuery = strict({ ...optional({ source: portedSource, phone }), ...page });
export const portedClearing = strict({ source: portedSource });
const mode = Type.Enum(['extend', 'replace'], { description: 'extend is the default.' });
export const portedImportQuery = strict(optional({ mode }));
export const portedLines = file('number,carrier; the carrier as mobile, unicom, telecom, broadcast, or 移动, 联通, 电信, 广电.');
export const portedImportSchema = named('PortedImport', {
  rows: Type.Integer(),
  added: Type.Integer({ description: 'Numbers of which nothing was known.' }),
  changed: Type.Integer({ description: 'Numbers of which something else was known.' }),
});
export const rangeImportQuery = strict(
  optional({ mode, origin: Type.String({ maxLength: 200, description: 'Where the file is from, to remember.' }) }),
);
export const rangeLines = file('prefix,carrier,province,city; the prefix of 3 to 7 digits; an empty field says nothing.');
export const numberTableSchema = named('NumberTable', {
  bundled: Type.Object({
    origin: Type.String(),
    beginnings: Type.Integer({ description: 'Beginnings of seven digits whose place it knows.' }),
  }),
  imported: nullable(
    Type.Object({
      origin: Type.String(),
      importedAt: time,
      rows: Type.Integer({ description: 'Of the last file.' }),
      replaces: Type.Boolean({ description: 'The bundled places are not used.' }),
    }),
  ),
});
export const numberSchema = named('Number', {
  number: Type.String(),
  ...place,
  ported: nullable(ref(portedNumberSchema)),
  lists: Type.Array(
    Type.Object({
      id: configId,
      kind: blocklistKind,
      subjectId: nullable(configId),
      accountId: nullable(configId),
      source: Type.String(),
      addedAt: time,
    }),
  ),
});
