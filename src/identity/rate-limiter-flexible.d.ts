/** The part of rate-limiter-flexible that counts in memory without promises; the package ships no types for it. */
declare module 'rate-limiter-flexible/lib/component/MemoryStorage/MemoryStorage.js' {
  interface Count {
    readonly consumedPoints: number
    readonly msBeforeNext: number
  }
  class MemoryStorage {
    incrby(key: string, points: number, durationSeconds: number): Count
    delete(key: string): boolean
  }
  export = MemoryStorage
}
