// Figures of /stats: one reading, and what lies between two.

/** One reading of /stats. */
export class Sample {
  constructor(stats) {
    /** When, in milliseconds of this page's clock, which never jumps. */
    this.at = performance.now();
    this.families = new Map(stats.metrics.map((metric) => [metric.name, metric.samples]));
    this.started = this.value("process_start_time_seconds");
  }

  /** All samples of a metric whose labels include these. */
  samples(name, labels = {}) {
    const fits = (sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value);
    return (this.families.get(name) ?? []).filter(fits);
  }

  /** The sum of a counter or gauge; none where the metric is not there: an engine that is dead tells nothing. */
  value(name, labels) {
    const samples = this.samples(name, labels);
    return samples.length ? samples.reduce((sum, sample) => sum + sample.value, 0) : null;
  }

  /** A histogram, those of several labels added: bounds, counts (one more than bounds), sum. */
  histogram(name, labels) {
    const values = this.samples(name, labels).map((sample) => sample.value);
    if (!values.length) return null;
    const [first, ...rest] = values;
    const total = { bounds: first.bounds, counts: [...first.counts], sum: first.sum };
    for (const value of rest) {
      value.counts.forEach((count, bucket) => (total.counts[bucket] += count));
      total.sum += value.sum;
    }
    return total;
  }

  /** Values of a label. */
  names(metric, label) {
    return this.samples(metric).map((sample) => sample.labels[label]);
  }
}

/** What a counter gained in a second from one sample to another. */
export function rate(before, after, name, labels) {
  const [from, to] = [before?.value(name, labels), after?.value(name, labels)];
  if (from === null || to === null || from === undefined || to === undefined) return null;
  const elapsed = (after.at - before.at) / 1000;
  return elapsed > 0 ? Math.max(0, to - from) / elapsed : null;
}

/** The part of a histogram that came from one sample to another. */
export function gained(before, after, name, labels) {
  const [from, to] = [before?.histogram(name, labels), after?.histogram(name, labels)];
  if (!from || !to) return null;
  const counts = to.counts.map((count, bucket) => Math.max(0, count - from.counts[bucket]));
  return { bounds: to.bounds, counts, sum: Math.max(0, to.sum - from.sum) };
}

export const total = (histogram) => (histogram ? histogram.counts.reduce((sum, count) => sum + count, 0) : 0);

/** The mean; none of nothing. */
export const mean = (histogram) => (total(histogram) ? histogram.sum / total(histogram) : null);

/**
 * A quantile, as if the values of a bucket were spread evenly over it; none of nothing. What is above the last bound is
 * said to be the bound.
 */
export function quantile(histogram, share) {
  const count = total(histogram);
  if (!count) return null;
  let wanted = share * count;
  for (const [bucket, inside] of histogram.counts.entries()) {
    if (inside > 0 && wanted <= inside) {
      const low = bucket ? histogram.bounds[bucket - 1] : 0;
      const high = histogram.bounds[bucket] ?? low;
      return low + ((high - low) * wanted) / inside;
    }
    wanted -= inside;
  }
  return histogram.bounds.at(-1);
}

/** The latest sample that is at least so many milliseconds older than the last; else the oldest. */
export function before(history, milliseconds, last = history.length - 1) {
  const wanted = history[last].at - milliseconds;
  let index = last;
  while (index > 0 && history[index].at > wanted) index -= 1;
  return history[index];
}
