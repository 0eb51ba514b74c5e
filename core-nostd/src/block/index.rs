//! The index of the announcements of a block (spec 04, 4.1): sorted by key, each key once.
//!
//! [`index_by_key`] does all of it on one core. A miner with several cores sorts a part on each
//! ([`sort_by_key`]), merges the parts two by two, a range of the result on each core
//! ([`merge_split`], [`merge_by_key`]), and ends with [`keep_by_key`]; one that has an index of
//! yesterday's announcements merges it with the sorted new ones.
//!
//! Keys are the first bytes of hashes and so spread evenly, which the sorting makes use of; a peer who
//! finds hashes that begin alike makes it slower, by a factor of two or three at the most.

use crate::bytes::Hash32;

use super::tree::key;

/// Sorts announcements by key and moves those that count to the front; returns how many they are
/// (spec 04, 4.1). Keys 0 and `u64::MAX` are dropped, of equal keys one is kept.
pub fn index_by_key<T>(announcements: &mut [T], mut key_of: impl FnMut(&T) -> u64) -> usize {
    sort_by_key(announcements, &mut key_of);
    keep_by_key(announcements, key_of)
}

/// [`index_by_key`] of bare hashes.
pub fn index(hashes: &mut [Hash32]) -> usize {
    index_by_key(hashes, key)
}

/// Moves those that count to the front of announcements that are sorted by key, the others behind
/// them; returns how many count. Keys 0 and `u64::MAX` are dropped, of equal keys the first is kept.
pub fn keep_by_key<T>(announcements: &mut [T], mut key_of: impl FnMut(&T) -> u64) -> usize {
    let mut kept = 0;
    let mut last = 0;
    for at in 0..announcements.len() {
        let key = key_of(&announcements[at]);
        if key != last && key != u64::MAX {
            last = key;
            announcements.swap(kept, at);
            kept += 1;
        }
    }
    kept
}

/// Bits of a key that one pass sorts by.
const DIGIT_BITS: u32 = 8;
const DIGITS: usize = 1 << DIGIT_BITS;
/// Elements below which a comparing sort is faster than another pass.
const PASS_MIN: usize = 1024;

/// Sorts by key, in place; equal keys in any order.
///
/// Digit by digit from the highest: each pass moves the elements of a slice into the 256 ranges that
/// their digit says, then each range is sorted by the digits that follow. It ends after 8 digits,
/// whatever the keys are.
pub fn sort_by_key<T>(elements: &mut [T], mut key_of: impl FnMut(&T) -> u64) {
    sort_below(elements, u64::BITS, &mut key_of);
}

/// Sorts elements whose keys differ in the lowest `bits` bits only.
fn sort_below<T>(elements: &mut [T], bits: u32, key_of: &mut impl FnMut(&T) -> u64) {
    if bits == 0 {
        return;
    }
    if elements.len() < PASS_MIN {
        return elements.sort_unstable_by_key(key_of);
    }
    let shift = bits - DIGIT_BITS;
    let mut digit_of = |element: &T| (key_of(element) >> shift) as usize % DIGITS;
    let ends = permute(elements, &mut digit_of);
    let mut rest = elements;
    let mut start = 0;
    for end in ends {
        let (range, behind) = rest.split_at_mut(end - start);
        sort_below(range, shift, key_of);
        (rest, start) = (behind, end);
    }
}

/// Moves the elements into ranges by digit; returns where each range ends.
fn permute<T>(elements: &mut [T], digit_of: &mut impl FnMut(&T) -> usize) -> [usize; DIGITS] {
    let mut ends = [0; DIGITS];
    for element in &*elements {
        ends[digit_of(element)] += 1;
    }
    let mut next = [0; DIGITS];
    let mut sum = 0;
    for (next, end) in next.iter_mut().zip(&mut ends) {
        *next = sum;
        sum += *end;
        *end = sum;
    }
    // Each swap brings one element to the next free place of its range.
    for digit in 0..DIGITS {
        while next[digit] < ends[digit] {
            let at = next[digit];
            let wanted = digit_of(&elements[at]);
            elements.swap(at, next[wanted]);
            next[wanted] += 1;
        }
    }
    ends
}

/// Where to cut two sorted slices so that the first `len` elements of their merge are those in front
/// of both cuts, elements of `a` before equal ones of `b`.
///
/// # Panics
/// When `len` is above the sum of both lengths.
pub fn merge_split<T>(
    a: &[T],
    b: &[T],
    len: usize,
    mut key_of: impl FnMut(&T) -> u64,
) -> (usize, usize) {
    assert!(len <= a.len() + b.len(), "{len} of {} and {} elements", a.len(), b.len());
    // The least part of `a` whose next element is not before the last of `b`'s part.
    let (mut low, mut high) = (len.saturating_sub(b.len()), len.min(a.len()));
    while low < high {
        let middle = low + (high - low) / 2;
        if key_of(&a[middle]) <= key_of(&b[len - middle - 1]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    (low, len - low)
}

/// Merges two sorted slices into one, elements of `a` before equal ones of `b`.
///
/// # Panics
/// When `merged` has not as many elements as both.
pub fn merge_by_key<T: Copy>(
    a: &[T],
    b: &[T],
    merged: &mut [T],
    mut key_of: impl FnMut(&T) -> u64,
) {
    assert_eq!(a.len() + b.len(), merged.len(), "room for both");
    let (mut from_a, mut from_b) = (0, 0);
    let mut slots = merged.iter_mut();
    while from_a < a.len() && from_b < b.len() {
        let Some(slot) = slots.next() else { return };
        // Random keys can not be predicted, so there is no branch here.
        let take_b = key_of(&b[from_b]) < key_of(&a[from_a]);
        *slot = *if take_b { &b[from_b] } else { &a[from_a] };
        from_b += usize::from(take_b);
        from_a += usize::from(!take_b);
    }
    let rest = slots.into_slice();
    let (of_a, of_b) = rest.split_at_mut(a.len() - from_a);
    of_a.copy_from_slice(&a[from_a..]);
    of_b.copy_from_slice(&b[from_b..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Few and many different keys, all over the range or alike in their first bits.
    fn keys(len_max: usize) -> impl Strategy<Value = Vec<u64>> {
        let key = prop_oneof![
            any::<u64>(),
            0_u64..4,
            (0_u64..5).prop_map(|low| u64::MAX - low),
            any::<u16>().prop_map(|low| 0x1234_5678_0000_0000 | u64::from(low)),
        ];
        prop::collection::vec(key, 0..len_max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn sorts_as_the_library_does(keys in keys(20_000)) {
            let mut sorted: Vec<_> = keys.iter().copied().zip(0_u32..).collect();
            sort_by_key(&mut sorted, |element| element.0);
            prop_assert!(sorted.is_sorted_by_key(|element| element.0));
            // Nothing is lost or there twice.
            sorted.sort_unstable_by_key(|element| element.1);
            let elements = keys.iter().copied().zip(0_u32..);
            prop_assert!(sorted.into_iter().eq(elements));
        }

        #[test]
        fn the_index_has_each_key_once(keys in keys(3000)) {
            let mut indexed = keys.clone();
            let kept = index_by_key(&mut indexed, |key| *key);
            let mut expected: Vec<_> =
                keys.iter().copied().filter(|key| ![0, u64::MAX].contains(key)).collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(&indexed[..kept], &expected[..]);
        }

        #[test]
        fn parts_of_a_merge_are_the_merge(mut a in keys(300), mut b in keys(300), cuts: [u16; 3]) {
            a.sort_unstable();
            b.sort_unstable();
            let tagged = |keys: &[u64], tag: u8| keys.iter().map(|key| (*key, tag)).collect();
            let (a, b): (Vec<_>, Vec<_>) = (tagged(&a, 0), tagged(&b, 1));
            let len = a.len() + b.len();
            let mut expected = [a.clone(), b.clone()].concat();
            expected.sort();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| usize::from(*cut) % (len + 1)).collect();
            cuts.extend([0, len]);
            cuts.sort_unstable();
            let mut merged = std::vec![(0, 0); len];
            for ends in cuts.windows(2) {
                let [from, to] = [ends[0], ends[1]].map(|len| merge_split(&a, &b, len, |e| e.0));
                let part = &mut merged[ends[0]..ends[1]];
                merge_by_key(&a[from.0..to.0], &b[from.1..to.1], part, |element| element.0);
            }
            prop_assert_eq!(merged, expected);
        }
    }
}
