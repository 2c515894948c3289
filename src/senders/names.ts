/** Names of the operations about people, for those who load them only when one is asked for. */
export const peopleOperationNames: readonly string[] = [
  ...['list', 'approve', 'deny', 'revoke'].map((verb) => `pairing.${verb}`),
  ...['list', 'add', 'remove', 'review'].map((verb) => `allowlist.${verb}`),
  'channel.check',
]
