//! An index of one table, which follows the table's log of changes.

use std::sync::Arc;

use nova_core::domain::{
    Admission, Aggregate, GuestKind, HostId, HostState, HostTable, Liveness, RequestSpec,
    ResourceKind, Slot, TableIdentity, TableRevision, ZoneName,
};

use smallvec::{SmallVec, smallvec};

use super::forest::{Entry, Forest, NONE, down, up};
use super::search::{Blend, Term};
use crate::scheduler::Weighing;

/// Lanes before those of the weighers: what is free of each resource.
pub(super) const FREE_LANES: usize = ResourceKind::ALL.len();

/// What is kept of the hosts of one table for one policy, and for requests that are alike.
#[derive(Debug)]
pub(super) struct Index {
    identity: TableIdentity,
    revision: TableRevision,
    pub(super) forest: Forest,
    pub(super) partitions: Vec<Partition>,
    /// The weighers of which hosts differ in their weight, in the order of the policy.
    pub(super) columns: Vec<Column>,
    /// For each weigher of the policy the weight of all hosts, where it is the same.
    pub(super) flat: Vec<Option<f64>>,
    /// How far the weights of each column were apart when the blends were made.
    pub(super) spans: Vec<f64>,
    /// How often it was asked since.
    asked: usize,
    /// Slot after slot, column after column.
    raw: Vec<f64>,
    /// By slot.
    known: Vec<Known>,
    stamp: u32,
}

/// What is known of the host in a slot.
#[derive(Debug, Clone)]
struct Known {
    id: HostId,
    /// Where the id comes among all.
    rank: u64,
    /// Where the host is sorted in.
    code: u64,
    /// Its partition, if it is in any.
    partition: u32,
    /// Which sync saw the slot last, so that none is looked at twice.
    stamp: u32,
}

impl Known {
    /// Nobody is there yet.
    fn nobody(stamp: u32) -> Self {
        Self { id: HostId::from_u128(0), rank: 0, code: 0, partition: NONE, stamp }
    }
}

/// A weigher whose weights differ.
#[derive(Debug)]
pub(super) struct Column {
    /// Its place in the policy.
    pub(super) weigher: usize,
    /// Weights that are no multiples of 1/1024 within a billion.
    odd: usize,
    /// No weight has ever been further from zero.
    reach: f64,
}

/// Hosts that static filters and multipliers do not tell apart.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) root: u32,
    pub(super) hosts: usize,
    /// One for each weigher of the policy.
    pub(super) multipliers: Vec<f64>,
    zone: ZoneName,
    admission: Admission,
    liveness: Liveness,
    aggregates: Vec<Arc<Aggregate>>,
    guest_kinds: Arc<[GuestKind]>,
    hypervisor_version: Option<u64>,
}

impl Partition {
    fn new(row: &HostState, root: u32, weighers: &[Weighing]) -> Self {
        Self {
            root,
            hosts: 0,
            multipliers: weighers.iter().map(|weighing| weighing.multiplier_on(row)).collect(),
            zone: row.zone.clone(),
            admission: row.admission.clone(),
            liveness: row.liveness,
            aggregates: row.aggregates.clone(),
            guest_kinds: Arc::clone(&row.guest_kinds),
            hypervisor_version: row.hypervisor_version,
        }
    }

    fn is_of(&self, row: &HostState) -> bool {
        fn alike<T: ?Sized + PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
            Arc::ptr_eq(a, b) || a == b
        }
        self.admission == row.admission
            && self.liveness == row.liveness
            && self.hypervisor_version == row.hypervisor_version
            && self.zone == row.zone
            && self.aggregates.len() == row.aggregates.len()
            && self.aggregates.iter().zip(&row.aggregates).all(|(a, b)| alike(a, b))
            && alike(&self.guest_kinds, &row.guest_kinds)
    }
}

/// An index cannot be kept, or not cheaply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit;

impl Index {
    /// More partitions than this are none.
    const PARTITIONS_MAX: usize = 256;
    /// How far ranks are apart at first, so that others find a place between them.
    const RANK_GAP: u64 = 1 << 32;

    pub(super) fn new(
        hosts: &HostTable,
        weighers: &[Weighing],
        request: &RequestSpec,
        spans: Option<Vec<f64>>,
    ) -> Result<Self, Unfit> {
        let weigh = |row: &HostState, nth: usize| weight(&weighers[nth], row, request);
        let mut flat = Vec::with_capacity(weighers.len());
        let (mut columns, mut found) = (Vec::new(), Vec::new());
        for nth in 0..weighers.len() {
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for row in hosts.rows() {
                let weight = weigh(row, nth);
                (low, high) = (low.min(weight), high.max(weight));
            }
            let same = low == high;
            flat.push(same.then_some(low));
            if !same {
                columns.push(Column { weigher: nth, odd: 0, reach: 0.0 });
                found.push(high - low);
            }
        }
        let width = columns.len();
        let slots = hosts.slots_end();
        let mut index = Self {
            identity: hosts.identity().clone(),
            revision: hosts.revision(),
            forest: Forest::new(FREE_LANES + 2 * width + usize::from(width > 1)),
            partitions: Vec::new(),
            raw: vec![0.0; slots * width],
            columns,
            flat,
            asked: 0,
            spans: spans.filter(|spans| spans.len() == width).unwrap_or(found),
            known: vec![Known::nobody(0); slots],
            stamp: 0,
        };
        for (nth, (slot, row)) in (1_u64..).zip(hosts.slots().zip(hosts.rows())) {
            let known = &mut index.known[slot.index()];
            (known.id, known.rank) = (row.id, nth * Self::RANK_GAP);
            index.follow(hosts, slot, weighers, request)?;
        }
        Ok(index)
    }

    /// Whether it is of this table.
    pub(super) fn is_of(&self, hosts: &HostTable) -> bool {
        self.identity == *hosts.identity()
    }

    /// Catches up with the table.
    pub(super) fn sync(
        &mut self,
        hosts: &HostTable,
        weighers: &[Weighing],
        request: &RequestSpec,
    ) -> Result<(), Unfit> {
        self.asked += 1;
        let revision = hosts.revision();
        if self.revision == revision {
            return Ok(());
        }
        let changed = hosts.changed_since(self.revision).ok_or(Unfit)?;
        self.stamp = self.stamp.wrapping_add(1);
        for slot in changed {
            self.make_room(slot);
            let stamp = &mut self.known[slot.index()].stamp;
            if std::mem::replace(stamp, self.stamp) != self.stamp {
                self.follow(hosts, slot, weighers, request)?;
            }
        }
        self.revision = revision;
        Ok(())
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.forest.bytes()
            + self.raw.capacity() * size_of::<f64>()
            + self.known.capacity() * size_of::<Known>()
    }

    /// The weight of a host by the weigher of this column.
    pub(super) fn raw(&self, slot: u32, column: usize) -> f64 {
        self.raw[slot as usize * self.columns.len() + column]
    }

    /// Whether weights of a column that differ stay different when they are normalised: multiples
    /// of 1/1024 within a billion do, because a quotient keeps 52 bits.
    pub(super) fn is_coarse(&self, column: usize) -> bool {
        self.columns[column].odd == 0
    }

    fn make_room(&mut self, slot: Slot) {
        let slots = slot.index() + 1;
        if self.known.len() < slots {
            self.raw.resize(slots * self.columns.len(), 0.0);
            self.known.resize(slots, Known::nobody(self.stamp.wrapping_sub(1)));
        }
    }

    /// Takes over what is in `slot` now.
    fn follow(
        &mut self,
        hosts: &HostTable,
        slot: Slot,
        weighers: &[Weighing],
        request: &RequestSpec,
    ) -> Result<(), Unfit> {
        let at = slot.index();
        let Some(row) = hosts.at(slot) else {
            self.leave(slot);
            return Ok(());
        };
        for (weigher, flat) in self.flat.iter().enumerate() {
            // Hosts begin to differ where they did not: the index has no lane for that.
            if flat.is_some_and(|flat| weight(&weighers[weigher], row, request) != flat) {
                return Err(Unfit);
            }
        }
        let known = self.known[at].partition;
        let width = self.columns.len();
        let mut lanes = [0.0; FREE_LANES + 2 * LANES_MAX + 1];
        for (lane, kind) in ResourceKind::ALL.into_iter().enumerate() {
            lanes[lane] = up(row.free(kind));
        }
        if width > LANES_MAX {
            return Err(Unfit);
        }
        for (nth, column) in self.columns.iter_mut().enumerate() {
            let raw = weight(&weighers[column.weigher], row, request);
            let before = std::mem::replace(&mut self.raw[at * width + nth], raw);
            column.odd -= usize::from(known != NONE && is_odd(before));
            column.odd += usize::from(is_odd(raw));
            column.reach = column.reach.max(raw.abs());
            lanes[FREE_LANES + 2 * nth] = up(raw);
            lanes[FREE_LANES + 2 * nth + 1] = -down(raw);
        }
        if self.known[at].id != row.id {
            // Another host has come to this slot.
            self.leave(slot);
            let rank = self.rank_among(hosts, row.id)?;
            (self.known[at].id, self.known[at].rank) = (row.id, rank);
        }
        let Known { rank, partition: known, code: before, .. } = self.known[at];
        let stays = known != NONE && self.partitions[known as usize].is_of(row);
        if !stays {
            self.leave(slot);
        }
        let partition = if stays { known } else { self.partition(row, weighers)? };
        let blend = self.blend(slot, &self.partitions[partition as usize].multipliers);
        let mut used = FREE_LANES + 2 * width;
        if width > 1 {
            lanes[used] = up(blend);
            used += 1;
        }
        let code = self.code(slot, lanes[1]);
        let entry = Entry { slot, rank, code, lanes: &lanes[..used] };
        if stays && before == code {
            self.forest.update(entry);
            return Ok(());
        }
        self.leave(slot);
        let home = &mut self.partitions[partition as usize];
        self.forest.insert(&mut home.root, entry);
        home.hosts += 1;
        (self.known[at].partition, self.known[at].code) = (partition, code);
        Ok(())
    }

    /// A rank for a host that has come: between those of its neighbours in the order of ids.
    fn rank_among(&self, hosts: &HostTable, id: HostId) -> Result<u64, Unfit> {
        let rank = |(id, slot): (HostId, Slot)| {
            let at = slot.index();
            // A neighbour that has come too, and is not known yet, will find its own place.
            self.known.get(at).filter(|known| known.id == id).map(|known| known.rank)
        };
        let before = hosts.before(id).find_map(rank).unwrap_or(0);
        let after = hosts.after(id).find_map(rank);
        let after = after.unwrap_or_else(|| before.saturating_add(2 * Self::RANK_GAP));
        let between = before + after.saturating_sub(before) / 2;
        if between > before && between < after { Ok(between) } else { Err(Unfit) }
    }

    fn leave(&mut self, slot: Slot) {
        let known = std::mem::replace(&mut self.known[slot.index()].partition, NONE);
        if let Some(partition) = self.partitions.get_mut(known as usize) {
            self.forest.remove(&mut partition.root, slot);
            partition.hosts -= 1;
        }
    }

    fn partition(&mut self, row: &HostState, weighers: &[Weighing]) -> Result<u32, Unfit> {
        if let Some(at) = self.partitions.iter().position(|partition| partition.is_of(row)) {
            return Ok(at as u32);
        }
        if self.partitions.len() == Self::PARTITIONS_MAX {
            return Err(Unfit);
        }
        let root = self.forest.plant();
        self.partitions.push(Partition::new(row, root, weighers));
        Ok((self.partitions.len() - 1) as u32)
    }

    /// What bounds the scores of hosts with these multipliers besides each column by itself.
    pub(super) fn bound(&self, terms: &[Term], multipliers: &[f64]) -> Option<Blend> {
        if terms.len() < 2 {
            return None;
        }
        let width = self.columns.len();
        let mut unit: SmallVec<[f64; 4]> = smallvec![0.0; width];
        let (mut offset, mut rounding, mut counting) = (0.0, 0.0, 0);
        for term in terms {
            match *term {
                Term::Constant(part) => {
                    offset += part;
                    rounding += part.abs();
                }
                Term::Column { column, multiplier, low, span } => {
                    unit[column] = multiplier / span;
                    offset -= unit[column] * low;
                    rounding += multiplier.abs() + (unit[column] * low).abs();
                    counting += 1;
                }
            }
        }
        if counting < 2 {
            return None;
        }
        let mut beyond = SmallVec::new();
        for column in 0..width {
            let share = self.share(column, multipliers);
            beyond.push((column, unit[column] - share));
            rounding += (unit[column].abs() + share.abs()) * self.columns[column].reach;
        }
        // Every operation loses at most one part in 2^53 of what it is about, and there are few.
        let offset = offset + rounding * 1e-12;
        let bound = Blend { lane: FREE_LANES + 2 * width, beyond, offset };
        bound.offset.is_finite().then_some(bound)
    }

    /// Whether the scales have become so different from those of the blends that they bound
    /// little, and enough was asked since that to blend anew costs little beside it.
    pub(super) fn drifts(&self, spans: &[Option<f64>], hosts: usize) -> bool {
        let far = |(before, now): (&f64, &Option<f64>)| {
            now.is_some_and(|now| now > 1.25 * before || now < 0.8 * before)
        };
        self.asked > hosts && self.spans.iter().zip(spans).any(far)
    }

    /// What a unit of a column adds to the blend of a host with these multipliers.
    pub(super) fn share(&self, column: usize, multipliers: &[f64]) -> f64 {
        multipliers[self.columns[column].weigher] / self.spans[column]
    }

    /// The score of a host as it was, but for what all have in common, when the scales were
    /// those of [`spans`](Self::spans): near the score that it has now.
    fn blend(&self, slot: Slot, multipliers: &[f64]) -> f64 {
        let columns = 0..self.columns.len();
        columns.map(|column| self.share(column, multipliers) * self.raw(slot.0, column)).sum()
    }

    /// Where a host is sorted in: by its weight when there is one weigher that tells hosts apart,
    /// and then by its free memory; by several of them so that hosts with similar weights lie
    /// together.
    fn code(&self, slot: Slot, free_memory: f32) -> u64 {
        let axis = |nth| u64::from(sortable(self.raw(slot.0, nth) as f32));
        match self.columns.len() {
            0 => 0,
            1 => axis(0) << 32 | u64::from(sortable(free_memory)),
            2 => every_second(axis(0)) | every_second(axis(1)) << 1,
            _ => {
                let third = |nth| every_third(axis(nth) >> 11);
                third(0) | third(1) << 1 | third(2) << 2
            }
        }
    }
}

/// Weighers that tell hosts apart, at most.
const LANES_MAX: usize = 16;

/// Bits that sort as the numbers do.
fn sortable(number: f32) -> u32 {
    let bits = number.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The lower 32 bits, with a gap of one behind each.
fn every_second(mut bits: u64) -> u64 {
    bits = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
    bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits << 2) & 0x3333_3333_3333_3333;
    (bits | bits << 1) & 0x5555_5555_5555_5555
}

/// The lower 21 bits, with a gap of two behind each.
fn every_third(mut bits: u64) -> u64 {
    bits = (bits | bits << 32) & 0x001f_0000_0000_ffff;
    bits = (bits | bits << 16) & 0x001f_0000_ff00_00ff;
    bits = (bits | bits << 8) & 0x100f_00f0_0f00_f00f;
    bits = (bits | bits << 4) & 0x10c3_0c30_c30c_30c3;
    (bits | bits << 2) & 0x1249_2492_4924_9249
}

fn weight(weighing: &Weighing, row: &HostState, request: &RequestSpec) -> f64 {
    weighing.ends.clamp(weighing.weigher.weigh(row, request))
}

fn is_odd(raw: f64) -> bool {
    let scaled = raw * 1024.0;
    scaled.abs() > 1_099_511_627_776.0 || scaled != (scaled as i64) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_are_coarse_stay_apart() {
        let odd = [0.1, 1e10, f64::INFINITY, -0.3].map(is_odd);
        let coarse = [0.0, 64.0, 1.5, -7.25, 1e9 - 1.0].map(is_odd);
        assert_eq!((odd, coarse), ([true; 4], [false; 5]));
    }

    #[test]
    fn bits_get_gaps() {
        for bits in [0_u64, 1, 0b1011, 0x1f_ffff, 0x15_5a5a] {
            let with_gaps = |gap: usize| (0..21).map(|bit| (bits >> bit & 1) << (bit * gap)).sum();
            assert_eq!((every_second(bits), every_third(bits)), (with_gaps(2), with_gaps(3)));
        }
        assert_eq!(every_second(0xffff_ffff), 0x5555_5555_5555_5555);
    }

    #[test]
    fn bits_sort_as_the_numbers_do() {
        let numbers = [f32::NEG_INFINITY, -2.5, -1.0, -0.0, 0.0, 1e-30, 1.0, 64.0, f32::INFINITY];
        assert!(numbers.map(sortable).is_sorted());
    }
}
