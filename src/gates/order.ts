/** The order in which gates are asked (DESIGN §4). A test pins it, `config show --pipeline` prints it. */
export const gateOrder: readonly string[] = [
  'lockdown',
  'shape',
  'path',
  'address rate',
  'size',
  'identity',
  'scope',
  'origin',
  'identity rate',
]
