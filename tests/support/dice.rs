//! Chance that can be had again: the seed is printed, and `NETLATCH_SEED` sets it.

/// A random number generator (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    /// What to set `NETLATCH_SEED` to for the same throws.
    pub(crate) seed: u64,
    state: u64,
}

impl Dice {
    /// Dice with the seed of the environment, or one of the clock's. `what` is printed with it; libtest shows it
    /// where the test fails.
    pub(crate) fn new(what: &str) -> Dice {
        let seed = match std::env::var("NETLATCH_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|e| panic!("NETLATCH_SEED={text}: {e}")),
            Err(_) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
                u64::from(now.subsec_nanos()) ^ now.as_secs()
            }
        };
        println!("{what}: NETLATCH_SEED={seed}");
        Dice::with(seed)
    }

    /// Dice with this seed.
    pub(crate) fn with(seed: u64) -> Dice {
        Dice { seed, state: seed }
    }

    /// Dice of their own for the `index`th of several things that happen at once.
    pub(crate) fn branch(&self, index: usize) -> Dice {
        let mut branch =
            Dice { seed: self.seed, state: self.seed ^ (index as u64).wrapping_mul(0xd134_2543_de82_ef95) };
        branch.next();
        branch
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True once in `times`.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `all`.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Puts `all` into a random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }
}
