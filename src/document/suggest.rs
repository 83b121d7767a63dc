//! "Did you mean": the known word closest to a mistyped one.

/// The closest of `known` to `word`, when it is close enough to be what was meant.
pub fn suggest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A word this long is no typo, and the distance costs the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        // Between equals, the one that begins alike: "igress" is "ingress" and not "egress".
        .min_by_key(|(distance, candidate)| {
            (*distance, !candidate.as_bytes().iter().take(1).eq(word.as_bytes().iter().take(1)))
        })
        .map(|(_, candidate)| candidate)
}

/// Changes between two words, where a swap of neighbours counts as one (optimal string alignment): swaps are the
/// commonest slip.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut before, mut above): (Vec<usize>, Vec<usize>) = (vec![0; b.len() + 1], (0..=b.len()).collect());
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(!same));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 5] = ["egress", "ingress", "ipv6", "on-denied", "allow-sysctls"];

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        for (word, meant) in [
            ("egres", "egress"),
            ("igress", "ingress"),
            ("Egress", "egress"),
            ("on_denied", "on-denied"),
            ("ipv4", "ipv6"),
            ("allow-sysctsl", "allow-sysctls"),
        ] {
            assert_eq!(suggest(word, WORDS), Some(meant), "{word}");
        }
        for word in ["", "policies", "x", "äöü"] {
            assert_eq!(suggest(word, WORDS), None, "{word}");
        }
        assert_eq!(suggest(&"e".repeat(100_000), WORDS), None);
    }
}
