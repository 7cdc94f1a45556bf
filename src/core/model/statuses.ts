/** The states of a message and the kinds of events sent to customers, with the numbers under which they are stored. */

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

/** Why screening intercepts a recipient or puts it in review. Each dialect defines the code its customers see. */
export type ScreeningStatus =
  | 'WL:CWHM' // no valid number
  | 'WL:MQM' // no signature
  | 'WL:QWBB' // the signature is not registered
  | 'WL:TCLJ' // outside the sending window
  | 'WL:TCSH' // the same, in review
  | 'WL:MBLJ' // the content is to be intercepted
  | 'WL:MBSH' // the content is to be reviewed
  | 'WL:ZJLJ' // the product sends by content templates only, and none matches
  | 'WL:NMLJ' // no content template matches
  | 'WL:NMSH' // the same, in review
  | 'WL:KHLJ' // on the list of empty numbers
  | 'WL:CHLJ' // on the blocklist of the platform or of the product
  | 'WL:SHLJ' // on the blocklist of the subscription
  | 'WL:QHLJ' // on the blocklist of the signature
  | 'WL:CPL' // over a frequency cap
  | 'WL:CS' // over the rate limit
  | 'WL:CMT' // the product has no channels
  | 'WL:CGMT' // no channel for the carrier
  | 'WL:CDQC' // no channel for the province
  | 'WL:CNH'; // no healthy channel

export const eventKind = { report: 1, reply: 2, audit: 3 } as const;
export type EventKind = (typeof eventKind)[keyof typeof eventKind];
export type EventKindName = keyof typeof eventKind;
export const eventKindName: Readonly<Record<EventKind, EventKindName>> = { 1: 'report', 2: 'reply', 3: 'audit' };
