//! The order in which the segments of one call are decided: a parent before the segments that were made from it.

use std::collections::HashMap;

/// The places of segments, each behind that of its parent where the call has it; otherwise in their order. `segments` are the key and the parent of
/// each; of a key that comes several times the first place counts as that of the parent.
///
/// # Errors
/// The places of segments whose parents form a cycle, or that come from such segments, behind the order of all others.
pub fn parents_first(segments: &[(&str, Option<&str>)]) -> (Vec<usize>, Vec<usize>) {
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(segments.len());
    for (place, (key, _)) in segments.iter().enumerate() {
        places.entry(key).or_insert(place);
    }
    let parent = |place: usize| segments[place].1.and_then(|key| places.get(key).copied());
    let mut is_ordered = vec![false; segments.len()];
    let (mut order, mut cyclic) = (Vec::with_capacity(segments.len()), Vec::new());
    for place in 0..segments.len() {
        // Each step of the chain is a segment that is not ordered yet, so a chain longer than the call is a cycle.
        let mut chain = Vec::new();
        let mut next = Some(place).filter(|place| !is_ordered[*place]);
        while let Some(one) = next.filter(|_| chain.len() <= segments.len()) {
            chain.push(one);
            next = parent(one).filter(|parent| !is_ordered[*parent]);
        }
        if chain.len() > segments.len() {
            cyclic.push(place);
            continue;
        }
        for one in chain.into_iter().rev() {
            is_ordered[one] = true;
            order.push(one);
        }
    }
    (order, cyclic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(segments: &[(&str, &str)]) -> (Vec<usize>, Vec<usize>) {
        let given = segments.iter().map(|(key, parent)| (*key, Some(*parent).filter(|parent| !parent.is_empty())));
        parents_first(&given.collect::<Vec<_>>())
    }

    #[test]
    fn parents_come_before_what_was_made_from_them() {
        assert_eq!(order(&[("a", ""), ("b", ""), ("c", "a")]).0, [0, 1, 2]);
        assert_eq!(order(&[("c", "b"), ("d", ""), ("b", "a"), ("a", "")]).0, [3, 2, 0, 1]);
        assert_eq!(order(&[("b", "stored"), ("a", "b")]), (vec![0, 1], vec![]));
        assert_eq!(order(&[("b", "a"), ("a", ""), ("a", "")]).0, [1, 0, 2], "the order of one key stays");
    }

    #[test]
    fn cycles_are_left_out_with_what_was_made_from_them() {
        assert_eq!(order(&[("a", "a"), ("b", "")]), (vec![1], vec![0]));
        assert_eq!(order(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", ""), ("e", "a")]), (vec![3], vec![0, 1, 2, 4]));
    }
}
