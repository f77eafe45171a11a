//! Figures → what can be said of them: percentiles, medians, and ratios with the interval they lie in.

/// How often a sample is drawn again for an interval. More changes its ends by less than they are printed with.
const DRAWS: usize = 2_000;

/// A generator of the same numbers at every run: an order of configurations can be had again.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins anew.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % end.max(1)
    }

    /// Another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The value below which `share` of the sorted values lie; 0 of none.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Sorted, for percentiles.
pub fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values.to_vec());
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        0 if half > 0 => (sorted[half - 1] + sorted[half]) / 2.0,
        _ => percentile(&sorted, 0.5),
    }
}

/// A median of ratios and its 95% bootstrap interval.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Ratio {
    /// Of values measured in the same rounds: each is divided by the other of its own round.
    pub fn of(values: &[f64], reference: &[f64]) -> Self {
        Self::spread(&values.iter().zip(reference).map(|(value, base)| value / base).collect::<Vec<_>>())
    }

    /// Of the differences of the same rounds, per the reference's difference: what each of the two adds to `none`.
    pub fn of_added(values: &[f64], reference: &[f64], none: &[f64]) -> Self {
        let added = values.iter().zip(reference).zip(none).map(|((value, base), none)| (value - none) / (base - none));
        Self::spread(&added.collect::<Vec<_>>())
    }

    fn spread(each: &[f64]) -> Self {
        let mut random = Random::new(1);
        let draws = (0..DRAWS).map(|_| {
            let drawn: Vec<f64> = each.iter().map(|_| each[random.below(each.len())]).collect();
            median(&drawn)
        });
        let draws = sorted(draws.collect());
        Self { median: median(each), low: percentile(&draws, 0.025), high: percentile(&draws, 0.975) }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.low, self.high)
    }
}

/// What one configuration cost in one round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figure {
    /// CPU time for each call, in µs.
    pub cpu: f64,
    /// The part of it that the API server used, where both were watched.
    pub api: f64,
    /// Half of the calls were answered in this time, in ms.
    pub p50: f64,
    /// All but one of a hundred were, in ms.
    pub p99: f64,
    /// Calls in a second.
    pub rate: f64,
}

/// The figures of one configuration, one for each round.
#[derive(Clone, Debug, Default)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    /// One column of them.
    pub fn column(&self, of: fn(&Figure) -> f64) -> Vec<f64> {
        self.0.iter().map(of).collect()
    }

    /// The middle of one column.
    pub fn median(&self, of: fn(&Figure) -> f64) -> f64 {
        median(&self.column(of))
    }
}

/// Measures every configuration once a round, in another order each round; the round before the first one warms up.
///
/// # Errors
/// The first of `measure`.
pub fn rounds<K: Copy>(
    count: usize,
    configurations: &[K],
    mut measure: impl FnMut(K) -> anyhow::Result<Figure>,
) -> anyhow::Result<Vec<(K, Figures)>> {
    let mut all: Vec<(K, Figures)> = configurations.iter().map(|&key| (key, Figures::default())).collect();
    let mut random = Random::new(7);
    for round in 0..=count {
        let mut order: Vec<usize> = (0..all.len()).collect();
        random.shuffle(&mut order);
        for index in order {
            let figure = measure(all[index].0)?;
            if round > 0 {
                all[index].1.0.push(figure);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let ratio = Ratio::of(&[2.0, 20.0, 200.0], &[1.0, 10.0, 100.0]);
        assert_eq!((ratio.median, ratio.low, ratio.high), (2.0, 2.0, 2.0));
        let added = Ratio::of_added(&[3.0, 5.0], &[2.0, 3.0], &[1.0, 1.0]);
        assert_eq!(added.median, 2.0);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values = sorted((0..=100).map(f64::from).collect());
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99)), (50.0, 99.0));
        assert_eq!((percentile(&[], 0.5), median(&[1.0, 3.0])), (0.0, 2.0));
    }
}
