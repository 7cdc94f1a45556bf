/** The simulated carriers there are, by the protocol they speak. */
import { simulatorKind as cmpp } from './cmpp.ts';
import { simulatorKind as mm7 } from './mm7.ts';
import type { SimulatorKind } from './simulator.ts';

export const simulatorKinds = { cmpp, mm7 } as const satisfies Readonly<Record<string, SimulatorKind>>;
