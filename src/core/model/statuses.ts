/** The states of a message and the kinds of events that customers are told of, with the numbers under which they are stored. */

/** States only move forward; from `delivered` on they are final. */
export const messageStatus = {
  sent: 1,
  delivered: 10,
  undelivered: 11,
  rejected: 12,
  expired: 13,
  unknown: 14,
  intercepted: 15,
  cancelled: 16,
} as const;
export type MessageStatus = (typeof messageStatus)[keyof typeof messageStatus];
export const isFinal = (status: number): boolean => status >= messageStatus.delivered;

export const eventKind = { report: 1, reply: 2, audit: 3 } as const;
export type EventKind = (typeof eventKind)[keyof typeof eventKind];
export type EventKindName = keyof typeof eventKind;
export const eventKindName: Readonly<Record<EventKind, EventKindName>> = { 1: 'report', 2: 'reply', 3: 'audit' };
