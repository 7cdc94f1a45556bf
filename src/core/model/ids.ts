/**
 * Arithmetic on ids: message id = chunk id × 512 + index, chunk id = batch id × 64 + number. Each is computed from the other without a
 * look-up.
 */

export const chunkCapacity = 500;

export const chunkIdOf = (batchId: bigint, number: number): bigint => batchId * 64n + BigInt(number);
export const messageIdOf = (chunkId: bigint, index: number): bigint => chunkId * 512n + BigInt(index);
export const chunkOfMessage = (messageId: bigint): bigint => messageId / 512n;
export const indexOf = (messageId: bigint): number => Number(messageId % 512n);
export const batchIdOf = (messageId: bigint): bigint => messageId / 32768n;
