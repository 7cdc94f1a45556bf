/** Numbers: their carrier and place, ported numbers, and the blocklists they are on. */
import { Type } from 'typebox';
import { blocklistKind } from './blocklists.ts';
import { configId, file, named, nullable, optional, page, phone, place, ref, strict, time } from './bricks.ts';

const mainlandCarrier = Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast']);
export const numberParams = Type.Object({ number: phone });
const portedSource = Type.Enum(['import', 'learned']);
export const portedNumberSchema = named('PortedNumber', {
  phone: Type.String(),
  carrier: nullable(Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast'], { description: 'As imported; null: not known.' })),
  notCarriers: Type.Array(mainlandCarrier, { description: 'Carriers that have said the number is not theirs.' }),
  source: portedSource,
  changedAt: time,
});
export const portedQuery = strict({ ...optional({ source: portedSource, phone }), ...page });
export const portedClearing = strict({ source: portedSource });
const mode = Type.Enum(['extend', 'replace'], { description: 'extend is the default.' });
export const portedImportQuery = strict(optional({ mode }));
export const portedLines = file('number,carrier per line; the carrier is mobile, unicom, telecom, broadcast, or 移动, 联通, 电信, 广电.');
export const portedImportSchema = named('PortedImport', {
  rows: Type.Integer(),
  added: Type.Integer({ description: 'Numbers that were not in the table.' }),
  changed: Type.Integer({ description: 'Numbers that were in the table with other data.' }),
});
export const rangeImportQuery = strict(
  optional({ mode, origin: Type.String({ maxLength: 200, description: 'A note on where the file comes from.' }) }),
);
export const rangeLines = file('prefix,carrier,province,city per line; the prefix has 3 to 7 digits; an empty field means not known.');
export const numberTableSchema = named('NumberTable', {
  bundled: Type.Object({
    origin: Type.String(),
    beginnings: Type.Integer({ description: 'Seven-digit prefixes whose place is known.' }),
  }),
  imported: nullable(
    Type.Object({
      origin: Type.String(),
      importedAt: time,
      rows: Type.Integer({ description: 'Rows of the last file.' }),
      replaces: Type.Boolean({ description: 'True if the bundled places are not used.' }),
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
