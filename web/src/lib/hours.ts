/** What services tell by the hour. Hours are whole: the first that is told began before the time that was asked for. */

export const since = <T extends { hours: { at: number }[] }>(told: T, at: number): T => ({ ...told, hours: told.hours.filter((one) => one.at >= at) });
