export interface ContentRules {
  judge(accountId: bigint, text: string): { verdict: 'pass' | 'review' | 'intercept'; entry: Record<string, string | number> } | null;
}
