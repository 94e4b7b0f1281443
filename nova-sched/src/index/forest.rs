//! Trees over hosts whose nodes know the most of each number below them.
//!
//! A node has room for [`FANOUT`] entries: hosts in a leaf, nodes elsewhere. For each entry it
//! keeps the least rank below and, in lanes, the greatest of each number below. A least number
//! is kept as the greatest of its opposite, so that one rule serves all. Lanes are rounded up, so
//! that they bound the exact numbers, which lie elsewhere.
//!
//! Hosts are sorted by a code, so that those that are alike lie together and the lanes are tight.
//! Nothing depends on the order but the speed.

use nova_core::domain::Slot;
use smallvec::SmallVec;

/// Entries of a node.
pub(super) const FANOUT: usize = 16;
/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// A number, rounded up: never less than `number`.
pub(super) fn up(number: f64) -> f32 {
    let rounded = number as f32;
    if f64::from(rounded) < number { rounded.next_up() } else { rounded }
}

/// A number, rounded down: never more than `number`.
pub(super) fn down(number: f64) -> f32 {
    -up(-number)
}

/// A number of each entry.
pub(super) type Lane = [f32; FANOUT];

/// Trees that share their room, each known by its root.
#[derive(Debug)]
pub(super) struct Forest {
    lanes: usize,
    /// Node after node, lane after lane.
    bounds: Vec<Lane>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// The leaf of each slot.
    leaf_of: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Node {
    parent: u32,
    is_leaf: bool,
    len: usize,
    /// Slots of a leaf, nodes elsewhere.
    links: [u32; FANOUT],
    /// The code of a host, or one that is at most the least below.
    codes: [u64; FANOUT],
    /// The least rank below; the greatest there is where there is no entry.
    ranks: [u64; FANOUT],
}

/// A host as it is entered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) slot: Slot,
    /// Where its id comes among all; ids are in the order of ranks.
    pub(super) rank: u64,
    pub(super) code: u64,
    pub(super) lanes: &'a [f32],
}

/// What an entry was and what it is, as far as its ancestors know of it.
struct Change {
    lanes: SmallVec<[(f32, f32); 16]>,
    rank: (u64, u64),
}

impl Change {
    /// An entry that is going away.
    fn of(forest: &Forest, node: u32, at: usize) -> Self {
        let mut lanes = SmallVec::new();
        for lane in forest.lanes_of(node) {
            lanes.push((lane[at], f32::NEG_INFINITY));
        }
        Self { lanes, rank: (forest.ranks(node)[at], u64::MAX) }
    }
}

impl Forest {
    pub(super) fn new(lanes: usize) -> Self {
        let (bounds, nodes, free, leaf_of) = Default::default();
        Self { lanes, bounds, nodes, free, leaf_of }
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bounds.capacity() * size_of::<Lane>()
            + self.nodes.capacity() * size_of::<Node>()
            + (self.free.capacity() + self.leaf_of.capacity()) * size_of::<u32>()
    }

    /// A tree without hosts.
    pub(super) fn plant(&mut self) -> u32 {
        self.add_node(true)
    }

    pub(super) fn is_leaf(&self, node: u32) -> bool {
        self.nodes[node as usize].is_leaf
    }

    pub(super) fn len(&self, node: u32) -> usize {
        self.nodes[node as usize].len
    }

    /// The slot or the node of an entry.
    pub(super) fn link(&self, node: u32, at: usize) -> u32 {
        self.nodes[node as usize].links[at]
    }

    /// The least rank of each entry.
    pub(super) fn ranks(&self, node: u32) -> &[u64; FANOUT] {
        &self.nodes[node as usize].ranks
    }

    /// A lane of all entries; where there is no entry, less than any number.
    pub(super) fn lane(&self, node: u32, lane: usize) -> &Lane {
        &self.lanes_of(node)[lane]
    }

    fn lanes_of(&self, node: u32) -> &[Lane] {
        let start = node as usize * self.lanes;
        &self.bounds[start..start + self.lanes]
    }

    fn lanes_of_mut(&mut self, node: u32) -> &mut [Lane] {
        let start = node as usize * self.lanes;
        &mut self.bounds[start..start + self.lanes]
    }

    /// Some host of a tree.
    pub(super) fn any(&self, root: u32) -> Option<Slot> {
        let mut node = root;
        while !self.is_leaf(node) {
            node = self.link(node, 0);
        }
        (self.len(node) > 0).then(|| Slot(self.link(node, 0)))
    }

    /// Enters a host that is in no tree.
    pub(super) fn insert(&mut self, root: &mut u32, entry: Entry<'_>) {
        let mut node = *root;
        while !self.is_leaf(node) {
            let known = &self.nodes[node as usize];
            // The last child that begins at or before the code.
            let after = known.codes[..known.len].partition_point(|code| *code <= entry.code);
            let at = after.saturating_sub(1);
            self.widen(node, at, entry);
            node = self.link(node, at);
        }
        let full = self.len(node) == FANOUT;
        if full {
            let right = self.split(root, node);
            let first = self.nodes[right as usize].codes[0];
            if entry.code >= first {
                node = right;
            }
        }
        let at = self.len(node);
        self.nodes[node as usize].len = at + 1;
        self.put(node, at, entry.slot.0, entry.code, entry.rank, entry.lanes);
        let index = entry.slot.index();
        if self.leaf_of.len() <= index {
            self.leaf_of.resize(index + 1, NONE);
        }
        self.leaf_of[index] = node;
        if full {
            // After a split the way up is not the way down.
            self.refresh(node);
        }
    }

    /// Takes a host out of the tree of `root`.
    pub(super) fn remove(&mut self, root: &mut u32, slot: Slot) {
        let Some(leaf) = self.leaf_of.get_mut(slot.index()) else { return };
        let mut node = std::mem::replace(leaf, NONE);
        if node == NONE {
            return;
        }
        let at = self.position(node, slot.0);
        let mut change = Change::of(self, node, at);
        self.give_up(node, at);
        if self.len(node) > 0 {
            self.tell(node, &mut change);
            return;
        }
        // A node without entries leaves its parent, which may be the last that it has.
        while self.len(node) == 0 && node != *root {
            let parent = self.nodes[node as usize].parent;
            let at = self.position(parent, node);
            self.take_out(parent, at);
            self.free.push(node);
            node = parent;
        }
        self.refresh(node);
        while !self.is_leaf(*root) && self.len(*root) <= 1 {
            let old = *root;
            if self.len(old) == 1 {
                *root = self.link(old, 0);
                self.nodes[*root as usize].parent = NONE;
                self.free.push(old);
            } else {
                self.nodes[old as usize].is_leaf = true;
            }
        }
    }

    /// Enters other numbers for a host that stays where it is.
    pub(super) fn update(&mut self, entry: Entry<'_>) {
        let node = self.leaf_of[entry.slot.index()];
        let at = self.position(node, entry.slot.0);
        let mut change = Change::of(self, node, at);
        change.lanes.iter_mut().zip(entry.lanes).for_each(|(lane, now)| lane.1 = *now);
        change.rank.1 = entry.rank;
        self.put(node, at, entry.slot.0, entry.code, entry.rank, entry.lanes);
        self.tell(node, &mut change);
    }

    fn position(&self, node: u32, link: u32) -> usize {
        let node = &self.nodes[node as usize];
        let at = node.links[..node.len].iter().position(|known| *known == link);
        at.expect("a node knows its entries")
    }

    fn add_node(&mut self, is_leaf: bool) -> u32 {
        let (links, codes) = ([NONE; FANOUT], [0; FANOUT]);
        let ranks = [u64::MAX; FANOUT];
        let node = Node { parent: NONE, is_leaf, len: 0, links, codes, ranks };
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                self.lanes_of_mut(at).fill([f32::NEG_INFINITY; FANOUT]);
                at
            }
            None => {
                self.nodes.push(node);
                let len = self.bounds.len() + self.lanes;
                self.bounds.resize(len, [f32::NEG_INFINITY; FANOUT]);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    fn put(&mut self, node: u32, at: usize, link: u32, code: u64, rank: u64, lanes: &[f32]) {
        for (lane, number) in self.lanes_of_mut(node).iter_mut().zip(lanes) {
            lane[at] = *number;
        }
        let node = &mut self.nodes[node as usize];
        (node.links[at], node.codes[at], node.ranks[at]) = (link, code, rank);
    }

    /// Lets the entry at `at` hold `entry` too.
    fn widen(&mut self, node: u32, at: usize, entry: Entry<'_>) {
        for (lane, number) in self.lanes_of_mut(node).iter_mut().zip(entry.lanes) {
            lane[at] = if *number > lane[at] { *number } else { lane[at] };
        }
        let node = &mut self.nodes[node as usize];
        node.codes[at] = node.codes[at].min(entry.code);
        node.ranks[at] = node.ranks[at].min(entry.rank);
    }

    /// Takes a host out of its leaf, where the order does not matter.
    fn give_up(&mut self, leaf: u32, at: usize) {
        let last = self.len(leaf) - 1;
        for lane in self.lanes_of_mut(leaf) {
            lane[at] = lane[last];
            lane[last] = f32::NEG_INFINITY;
        }
        let leaf = &mut self.nodes[leaf as usize];
        leaf.links[at] = leaf.links[last];
        leaf.codes[at] = leaf.codes[last];
        leaf.ranks[at] = leaf.ranks[last];
        leaf.ranks[last] = u64::MAX;
        leaf.len = last;
    }

    /// Closes the gap at `at`. The order of codes stays.
    fn take_out(&mut self, node: u32, at: usize) {
        let last = self.len(node) - 1;
        for lane in self.lanes_of_mut(node) {
            lane.copy_within(at + 1..=last, at);
            lane[last] = f32::NEG_INFINITY;
        }
        let node = &mut self.nodes[node as usize];
        node.links.copy_within(at + 1..=last, at);
        node.codes.copy_within(at + 1..=last, at);
        node.ranks.copy_within(at + 1..=last, at);
        node.ranks[last] = u64::MAX;
        node.len = last;
    }

    /// Moves the upper half of a full node to a new one behind it, which it gives.
    fn split(&mut self, root: &mut u32, node: u32) -> u32 {
        let is_leaf = self.is_leaf(node);
        if is_leaf {
            self.sort(node);
        }
        let right = self.add_node(is_leaf);
        let half = FANOUT / 2;
        for at in half..FANOUT {
            self.copy(node, at, right, at - half);
        }
        for at in (half..FANOUT).rev() {
            self.take_out(node, at);
        }
        self.nodes[right as usize].len = FANOUT - half;
        for at in 0..FANOUT - half {
            let link = self.link(right, at);
            if is_leaf {
                self.leaf_of[link as usize] = right;
            } else {
                self.nodes[link as usize].parent = right;
            }
        }
        let mut parent = self.nodes[node as usize].parent;
        if parent == NONE {
            parent = self.add_node(false);
            self.nodes[parent as usize].len = 1;
            let least = self.nodes[node as usize].codes[0];
            let lanes = vec![f32::NEG_INFINITY; self.lanes];
            self.put(parent, 0, node, least, u64::MAX, &lanes);
            self.nodes[node as usize].parent = parent;
            *root = parent;
        } else if self.len(parent) == FANOUT {
            let beside = self.split(root, parent);
            // The node went to one of the two.
            parent = self.nodes[node as usize].parent;
            debug_assert!(parent == beside || self.len(parent) < FANOUT);
        }
        self.open_gap(parent, node, right);
        self.nodes[right as usize].parent = parent;
        self.summarise(node);
        self.summarise(right);
        right
    }

    /// Makes room for `right` behind `node` in their parent.
    fn open_gap(&mut self, parent: u32, node: u32, right: u32) {
        let at = self.position(parent, node) + 1;
        let len = self.len(parent);
        for lane in self.lanes_of_mut(parent) {
            lane.copy_within(at..len, at + 1);
        }
        let least = self.nodes[right as usize].codes[0];
        let known = &mut self.nodes[parent as usize];
        known.links.copy_within(at..len, at + 1);
        known.codes.copy_within(at..len, at + 1);
        known.ranks.copy_within(at..len, at + 1);
        (known.links[at], known.codes[at], known.len) = (right, least, len + 1);
    }

    fn copy(&mut self, from: u32, at: usize, to: u32, there: usize) {
        let (source, target) = (from as usize * self.lanes, to as usize * self.lanes);
        for lane in 0..self.lanes {
            self.bounds[target + lane][there] = self.bounds[source + lane][at];
        }
        let (link, code, rank) = {
            let node = &self.nodes[from as usize];
            (node.links[at], node.codes[at], node.ranks[at])
        };
        let node = &mut self.nodes[to as usize];
        (node.links[there], node.codes[there], node.ranks[there]) = (link, code, rank);
    }

    /// Sorts the hosts of a full leaf by their codes.
    fn sort(&mut self, node: u32) {
        let known = self.nodes[node as usize].clone();
        let mut order: [usize; FANOUT] = std::array::from_fn(|at| at);
        order.sort_by_key(|at| known.codes[*at]);
        let sorted = &mut self.nodes[node as usize];
        for (there, at) in order.iter().enumerate() {
            sorted.links[there] = known.links[*at];
            sorted.codes[there] = known.codes[*at];
            sorted.ranks[there] = known.ranks[*at];
        }
        for lane in self.lanes_of_mut(node) {
            *lane = order.map(|at| lane[at]);
        }
    }

    /// Tells the ancestors of `node` that one of its entries has changed, as far as that changes
    /// anything for them.
    fn tell(&mut self, mut node: u32, change: &mut Change) {
        loop {
            let parent = self.nodes[node as usize].parent;
            if parent == NONE {
                return;
            }
            let at = self.position(parent, node);
            let mut changed = false;
            let (ours, theirs) = self.two_nodes(node, parent);
            for (lane, (before, now)) in change.lanes.iter_mut().enumerate() {
                let known = theirs[lane][at];
                let most = match () {
                    () if *now >= known => *now,
                    // It was the greatest, perhaps among others.
                    () if *before == known => greatest(&ours[lane]),
                    () => known,
                };
                theirs[lane][at] = most;
                changed |= most != known;
                (*before, *now) = (known, most);
            }
            let known = self.nodes[parent as usize].ranks[at];
            let (before, now) = change.rank;
            let least = match () {
                () if now <= known => now,
                () if before == known => self.least(node),
                () => known,
            };
            self.nodes[parent as usize].ranks[at] = least;
            changed |= least != known;
            change.rank = (known, least);
            if !changed {
                return;
            }
            node = parent;
        }
    }

    /// The lanes of a node to read, and those of its parent to write.
    fn two_nodes(&mut self, node: u32, parent: u32) -> (&[Lane], &mut [Lane]) {
        let (ours, theirs) = (node as usize * self.lanes, parent as usize * self.lanes);
        if ours < theirs {
            let (lower, upper) = self.bounds.split_at_mut(theirs);
            (&lower[ours..ours + self.lanes], &mut upper[..self.lanes])
        } else {
            let (lower, upper) = self.bounds.split_at_mut(ours);
            (&upper[..self.lanes], &mut lower[theirs..theirs + self.lanes])
        }
    }

    /// The least rank below a node.
    fn least(&self, node: u32) -> u64 {
        self.ranks(node).iter().copied().fold(u64::MAX, u64::min)
    }

    /// Tells the ancestors of `node` what is below it now, as far as that changes anything.
    fn refresh(&mut self, mut node: u32) {
        while self.summarise(node) {
            node = self.nodes[node as usize].parent;
        }
    }

    /// Tells the parent of `node` what is below it now; whether that changed anything there.
    fn summarise(&mut self, node: u32) -> bool {
        let parent = self.nodes[node as usize].parent;
        if parent == NONE {
            return false;
        }
        let at = self.position(parent, node);
        let mut changed = false;
        let (ours, theirs) = self.two_nodes(node, parent);
        for (ours, theirs) in ours.iter().zip(theirs) {
            let most = greatest(ours);
            changed |= std::mem::replace(&mut theirs[at], most) != most;
        }
        let least = self.least(node);
        let known = &mut self.nodes[parent as usize].ranks[at];
        changed |= *known != least;
        *known = least;
        changed
    }
}

/// The greatest of a lane, in which there is always a number: four at a time, as processors like it.
fn greatest(lane: &[f32; FANOUT]) -> f32 {
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    let mut most = [f32::NEG_INFINITY; 4];
    for four in lane.chunks_exact(4) {
        for (most, number) in most.iter_mut().zip(four) {
            *most = greater(*most, *number);
        }
    }
    greater(greater(most[0], most[1]), greater(most[2], most[3]))
}

#[cfg(test)]
mod tests;
