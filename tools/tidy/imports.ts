// Who imports whom, and who touches the environment, the driver and sockets.
import { coreImports, coreLevels, harmless, packages, reserved, rooms, socketModules } from './rules.ts';
import { isIn, isUnitTest, type Parsed, resolve } from './source.ts';

/** The folder of a vendor's family of dialects; none knows another. */
const familyOf = (file: string): string | undefined => /^src\/http\/dialects\/([^/]+)\//.exec(file)?.[1];

const inRooms = (sources: readonly Parsed[]) => sources.filter(({ file }) => !isUnitTest(file) && file.includes('/'));
const roomOf = (file: string) => rooms.find(({ room }) => isIn(file, room));
const targets = ({ file, imports }: Parsed): string[] => imports.flatMap(({ from }) => resolve(file, from) ?? []);

export function checkRooms(sources: readonly Parsed[]): string[] {
  return inRooms(sources).flatMap((source) => {
    const { file } = source;
    const home = roomOf(file);
    if (!home) return [`${file} is in no room: add it to the table`];
    return source.imports.flatMap(({ from, names, isLazy }) => {
      const target = resolve(file, from);
      if (target === undefined) return [];
      if (isIn(file, 'src/channels') && isIn(target, 'simulators') && names.length > 0 && !isLazy)
        return [`${file} imports ${target} with the program: import it lazily`];
      const [family, other] = [familyOf(file), familyOf(target)];
      if (family !== undefined && other !== undefined && family !== other) return [`${file} imports another dialect, ${target}`];
      const isAllowed = [home.room, ...home.mayImport].some((place) => isIn(target, place));
      return isAllowed && !isUnitTest(target) ? [] : [`${file} may not import ${target}`];
    });
  });
}

/** Rooms without files, and permissions that nobody uses. */
export function staleRooms(sources: readonly Parsed[]): string[] {
  return rooms.flatMap(({ room, mayImport }) => {
    const own = inRooms(sources).filter(({ file }) => roomOf(file)?.room === room);
    if (own.length === 0) return [`there is no room ${room}`];
    const imported = own.flatMap(targets).filter((target) => !isIn(target, room));
    return mayImport
      .filter((place) => !imported.some((target) => isIn(target, place)))
      .map((place) => `nothing in ${room} imports ${place}: take it off the table`);
  });
}

const coreFolder = (file: string): string | undefined => /^src\/core\/([^/]+)\//.exec(file)?.[1];

/** The pairs of folders of the core that import each other, each with a file that does. */
function corePairs(sources: readonly Parsed[]): { from: string; to: string; file: string }[] {
  return sources
    .filter(({ file }) => !isUnitTest(file))
    .flatMap((source) =>
      targets(source).flatMap((target) => {
        const [from, to] = [coreFolder(source.file), coreFolder(target)];
        return from === undefined || to === undefined || from === to ? [] : [{ from, to, file: source.file }];
      }),
    );
}

export function checkCore(sources: readonly Parsed[]): string[] {
  return corePairs(sources).flatMap(({ from, to, file }) =>
    coreImports[from]?.includes(to) ? [] : [`${file} imports core/${to}: core/${from} does not`],
  );
}

/** Pairs of the table that no file needs, and those that do not lead downwards. */
export function staleCore(sources: readonly Parsed[]): string[] {
  const found = new Set(corePairs(sources).map(({ from, to }) => `${from} ${to}`));
  const level = (folder: string) => coreLevels.findIndex((folders) => folders.includes(folder));
  return Object.entries(coreImports).flatMap(([from, folders]) =>
    folders.flatMap((to) => [
      ...(found.has(`${from} ${to}`) ? [] : [`nothing in core/${from} imports core/${to}: take it off the table`]),
      ...(level(to) >= 0 && level(to) < level(from) ? [] : [`core/${to} is not below core/${from}`]),
    ]),
  );
}

export function checkCycles(sources: readonly Parsed[]): string[] {
  const byFile = new Map(sources.map((source) => [source.file, source]));
  const finished = new Set<string>();
  const complaints: string[] = [];
  const visit = (file: string, trail: readonly string[]): void => {
    const at = trail.indexOf(file);
    if (at >= 0) complaints.push(`import cycle: ${[...trail.slice(at), file].join(' → ')}`);
    if (at >= 0 || finished.has(file)) return;
    for (const { from } of byFile.get(file)?.imports ?? []) {
      const target = resolve(file, from);
      if (target !== undefined) visit(target, [...trail, file]);
    }
    finished.add(file);
  };
  for (const { file } of sources) visit(file, []);
  return complaints;
}

interface Touch {
  what: keyof typeof reserved;
  complaint: string;
}

/** What a file touches of what is reserved, with the complaint if it may not. */
function touches({ file, imports, readsEnvironment }: Parsed): Touch[] {
  const environment: Touch = { what: 'environment', complaint: `${file} reads process.env: settings come from src/config.ts` };
  const others = imports.flatMap(({ from, names }): Touch[] => {
    if (from === 'postgres') return [{ what: 'driver', complaint: `${file} imports the driver: the door is src/db/db.ts` }];
    const opens = socketModules.includes(from) && names.some((name) => !harmless.has(name));
    return opens ? [{ what: 'sockets', complaint: `${file} imports ${from}: it has no business with sockets` }] : [];
  });
  return readsEnvironment ? [environment, ...others] : others;
}

export function checkReserved(sources: readonly Parsed[]): string[] {
  return sources.flatMap((source) => [
    ...touches(source).flatMap(({ what, complaint }) => {
      const isFree = what !== 'driver' && isUnitTest(source.file);
      return isFree || reserved[what].some((place) => isIn(source.file, place)) ? [] : [complaint];
    }),
    ...packages
      .filter(({ room }) => isIn(source.file, room))
      .flatMap(({ room, mayImport }) =>
        source.imports
          .filter(({ from }) => !from.startsWith('.') && !mayImport.includes(from))
          .map(({ from }) => `${source.file} imports ${from}: ${room} is shared with clients`),
      ),
  ]);
}

/** Places that touch nothing of what is reserved for them, and packages that their room does without. */
export function staleReserved(sources: readonly Parsed[]): string[] {
  const kinds = ['environment', 'driver', 'sockets'] as const;
  const touched = sources.flatMap((source) => touches(source).map(({ what }) => ({ what, file: source.file })));
  const uses = sources.flatMap(({ file, imports }) => imports.map(({ from, names }) => ({ file, from, names })));
  return [
    ...kinds.flatMap((kind) =>
      reserved[kind]
        .filter((place) => !touched.some(({ what, file }) => what === kind && isIn(file, place)))
        .map((place) => `${place} does not touch the ${kind}: take it off the list`),
    ),
    ...packages.flatMap(({ room, mayImport }) =>
      mayImport
        .filter((name) => !uses.some(({ file, from }) => isIn(file, room) && from === name))
        .map((name) => `nothing in ${room} imports the package ${name}: take it off the list`),
    ),
    ...[...harmless]
      .filter((name) => !uses.some(({ from, names }) => socketModules.includes(from) && names.includes(name)))
      .map((name) => `nobody imports ${name}: take it off the harmless ones`),
  ];
}
