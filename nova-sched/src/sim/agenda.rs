//! What will happen when: a queue of events that is not the bottleneck.

use std::collections::VecDeque;

use super::Moment;

/// Events by the moment at which they happen, and those of one moment by rank, then in the order
/// in which they were put in.
///
/// Time only goes forward, so this is a wheel of wheels: an event lies in the bucket of the
/// highest byte in which its moment differs from now, and moves down at most once for each byte.
/// A heap would compare it with others some twenty times, each in another corner of the memory.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    now: u64,
    /// The events of `now`, in order.
    due: VecDeque<Entry<T>>,
    /// By byte of the moment, from the lowest; then by the value of that byte.
    wheels: Vec<Wheel<T>>,
    /// The moment of the first event that is not due, where it is known.
    soonest: Option<u64>,
    next_number: u64,
    len: usize,
}

#[derive(Debug)]
struct Wheel<T> {
    buckets: Vec<Vec<Entry<T>>>,
    /// A bit for each bucket that is not empty.
    full: [u64; 4],
}

#[derive(Debug, Clone, Copy)]
struct Entry<T> {
    at: u64,
    /// The rank in the highest byte, then the number.
    order: u64,
    what: T,
}

const RANK_SHIFT: u32 = 56;

impl<T> Wheel<T> {
    fn new() -> Self {
        Self { buckets: (0..256).map(|_| Vec::new()).collect(), full: [0; 4] }
    }

    fn push(&mut self, bucket: usize, entry: Entry<T>) {
        self.buckets[bucket].push(entry);
        self.full[bucket / 64] |= 1 << (bucket % 64);
    }

    /// The first bucket that is not empty.
    fn first(&self) -> Option<usize> {
        let word = self.full.iter().position(|word| *word != 0)?;
        Some(word * 64 + self.full[word].trailing_zeros() as usize)
    }

    fn take(&mut self, bucket: usize) -> Vec<Entry<T>> {
        self.full[bucket / 64] &= !(1 << (bucket % 64));
        std::mem::take(&mut self.buckets[bucket])
    }
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        let wheels = (0..8).map(|_| Wheel::new()).collect();
        Self { now: 0, due: VecDeque::new(), wheels, soonest: None, next_number: 0, len: 0 }
    }

    /// How many events there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts an event in. One that should have happened already happens now.
    pub(crate) fn put(&mut self, at: Moment, rank: u8, what: T) {
        let at = at.millis().max(self.now);
        let order = u64::from(rank) << RANK_SHIFT | self.next_number;
        self.next_number += 1;
        self.len += 1;
        self.sort_in(Entry { at, order, what });
    }

    /// When the next event happens.
    pub(crate) fn next_at(&mut self) -> Option<Moment> {
        if let Some(due) = self.due.front() {
            return Some(Moment::of_millis(due.at));
        }
        if self.soonest.is_none() {
            let (byte, bucket) = self.first_bucket()?;
            self.soonest = self.wheels[byte].buckets[bucket].iter().map(|entry| entry.at).min();
        }
        self.soonest.map(Moment::of_millis)
    }

    /// Takes the next event out, if it happens at `until` or before.
    pub(crate) fn take_until(&mut self, until: Moment) -> Option<(Moment, T)> {
        if self.next_at()? > until {
            return None;
        }
        self.advance();
        let entry = self.due.pop_front()?;
        self.len -= 1;
        Some((Moment::of_millis(entry.at), entry.what))
    }

    fn sort_in(&mut self, entry: Entry<T>) {
        let differs = entry.at ^ self.now;
        if differs == 0 {
            // Mostly the last of its moment.
            let place = self.due.partition_point(|due| due.order < entry.order);
            self.due.insert(place, entry);
            return;
        }
        if self.soonest.is_some_and(|soonest| entry.at < soonest) {
            self.soonest = Some(entry.at);
        }
        let byte = (63 - differs.leading_zeros()) as usize / 8;
        let bucket = (entry.at >> (8 * byte)) as usize & 255;
        self.wheels[byte].push(bucket, entry);
    }

    /// The bucket in which the next events lie.
    fn first_bucket(&self) -> Option<(usize, usize)> {
        self.wheels.iter().enumerate().find_map(|(byte, wheel)| Some((byte, wheel.first()?)))
    }

    /// Goes on to the next moment at which something happens, when nothing is left of this one.
    /// Only when that is taken: until then earlier events may still be put in.
    fn advance(&mut self) {
        while self.due.is_empty() {
            let Some((byte, bucket)) = self.first_bucket() else { return };
            let mut entries = self.wheels[byte].take(bucket);
            self.now = entries.iter().map(|entry| entry.at).min().unwrap_or(self.now);
            self.soonest = None;
            if byte == 0 {
                // All of one moment.
                entries.sort_unstable_by_key(|entry| entry.order);
                self.due = entries.into();
            } else {
                entries.into_iter().for_each(|entry| self.sort_in(entry));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_by_moment_then_rank_then_order(
            steps in prop::collection::vec((0_u64..5, 0_u32..40, 0_u8..3, any::<bool>()), 1..300),
        ) {
            let (mut agenda, mut model) = (Agenda::new(), BTreeMap::new());
            let mut now = 0;
            for (nth, (near, shift, rank, takes)) in steps.into_iter().enumerate() {
                let at = now + (near << shift);
                agenda.put(Moment::of_millis(at), rank, nth);
                model.insert((at, rank, nth), ());
                let next = model.keys().next().map(|(at, _, _)| Moment::of_millis(*at));
                prop_assert_eq!(agenda.next_at(), next);
                if takes {
                    // Time may stand anywhere up to the next event, and things are put in from there.
                    let until = now + near * 3;
                    let expected = model.keys().next().copied().filter(|(at, _, _)| *at <= until);
                    let expected = expected.inspect(|key| { model.remove(key); });
                    let taken = agenda.take_until(Moment::of_millis(until));
                    let expected = expected.map(|(at, _, nth)| (Moment::of_millis(at), nth));
                    prop_assert_eq!(taken, expected);
                    now = taken.map_or(until, |(at, _)| at.millis());
                }
                prop_assert_eq!(agenda.len(), model.len());
            }
            let left: Vec<usize> = std::iter::from_fn(|| agenda.take_until(Moment::NEVER))
                .map(|(_, nth)| nth)
                .collect();
            let expected: Vec<usize> = model.keys().map(|(_, _, nth)| *nth).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
