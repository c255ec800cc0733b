// SPDX-License-Identifier: Apache-2.0
//! Lists of CPUs and memory nodes as cpuset(7), "List format", writes them: `0-3,7`, or `0-31:2/4` for the first two of every four.
//! Read by validation and by the plan, which so agree on what is one.

/// Numbers are below this: more CPUs than any kernel is built for.
pub const LIMIT: u32 = 1 << 16;

/// The numbers of a list, ascending and each once; none for an empty list. What stands between commas may be empty, as the kernel has it.
/// The error names the part that is wrong.
pub fn parse(text: &str) -> Result<Vec<u32>, String> {
    let mut words = [0u64; LIMIT as usize / 64];
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Range { first, last, used, group } = range(part)
            .ok_or_else(|| format!("{part:?} in {text:?} is neither a number below {LIMIT} nor a range such as 0-3"))?;
        match used < group {
            true => (first..=last).step_by(group as usize).for_each(|at| fill(&mut words, at, last.min(at + (used - 1)))),
            false => fill(&mut words, first, last),
        }
    }
    let bits = (0u32..)
        .zip(words)
        .flat_map(|(word, bits)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit));
    Ok(bits.collect())
}

/// `used` numbers of every `group`, from `first` to `last`.
struct Range {
    first: u32,
    last: u32,
    used: u32,
    group: u32,
}

fn range(part: &str) -> Option<Range> {
    let number = |word: &str| {
        let word = word.trim();
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| word.parse::<u32>().ok()).flatten().filter(|number| *number < LIMIT)
    };
    let (span, stride) = match part.split_once(':') {
        Some((span, stride)) => (span, Some(stride)),
        None => (part, None),
    };
    let (first, last) = span.split_once('-').unwrap_or((span, span));
    let (used, group) = stride.map_or(Some(("1", "1")), |stride| stride.split_once('/'))?;
    let range = Range { first: number(first)?, last: number(last)?, used: number(used)?, group: number(group)? };
    (range.first <= range.last && range.used > 0 && range.used <= range.group).then_some(range)
}

/// Sets the bits from `first` to `last`, a word at a time.
fn fill(words: &mut [u64], first: u32, last: u32) {
    for word in first / 64..=last / 64 {
        let from = first.saturating_sub(word * 64);
        let to = (last - word * 64).min(63);
        words[word as usize] |= (u64::MAX >> (63 - (to - from))) << from;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_reads_them() {
        for (text, numbers) in [
            ("", vec![]),
            (" ", vec![]),
            ("0", vec![0]),
            ("0-3,7", vec![0, 1, 2, 3, 7]),
            ("7,0-3,2", vec![0, 1, 2, 3, 7]),
            ("0,,3,", vec![0, 3]),
            (" 1 - 2 , 5", vec![1, 2, 5]),
            ("0-7:2/4", vec![0, 1, 4, 5]),
            ("1-6:3/3", vec![1, 2, 3, 4, 5, 6]),
            ("3:1/2", vec![3]),
            ("62-65", vec![62, 63, 64, 65]),
            ("65535", vec![65_535]),
        ] {
            assert_eq!(parse(text), Ok(numbers), "{text:?}");
        }
        for text in [
            "x",
            "-",
            "-1",
            "1-",
            "3-1",
            "0-x",
            "65536",
            "+1",
            "0-7:2",
            "0-7:0/4",
            "0-7:5/4",
            "0-7:/",
            "1 2",
            "0x1",
            "99999999999",
        ] {
            assert!(parse(text).unwrap_err().contains("neither a number"), "{text:?}");
        }
    }

    proptest! {
        /// Against the plainest reading of the manual.
        #[test]
        fn every_list_names_what_it_says(parts in prop::collection::vec((0u32..3000, 0u32..300, 1u32..40, 0u32..40), 0..6)) {
            let mut text = Vec::new();
            let mut expected = BTreeSet::new();
            for (first, more, used, unused) in parts {
                let last = first + more;
                text.push(format!("{first}-{last}:{used}/{}", used + unused));
                expected.extend((first..=last).filter(|number| (number - first) % (used + unused) < used));
            }
            prop_assert_eq!(parse(&text.join(",")).unwrap(), expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_list_written_from_its_numbers_reads_back(numbers in prop::collection::btree_set(0..LIMIT, 0..50)) {
            let text = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            prop_assert_eq!(parse(&text).unwrap(), numbers.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn any_text_is_a_list_or_refused(text in "[0-9,:/ -]{0,30}|.{0,20}") {
            if let Ok(numbers) = parse(&text) {
                prop_assert!(numbers.is_sorted() && numbers.iter().all(|number| *number < LIMIT));
            }
        }
    }
}
