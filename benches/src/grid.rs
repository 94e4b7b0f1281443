//! A reference: an index made for hosts of one size, vCPUs and memory in quanta, and nothing else.
//!
//! A cell for each number of free vCPUs and quanta holds the hosts that have just that. For each
//! number of vCPUs the least host of each cell, and of each block of cells, is at hand.

use std::collections::BTreeSet;

use crate::stream::Shape;
use crate::{Rule, VCPUS, quanta};

const BLOCK: usize = 32;
const NOBODY: u32 = u32::MAX;

/// Hosts by what they have free.
#[derive(Debug)]
pub struct Grid {
    rule: Rule,
    free: Vec<(u8, u16)>,
    cells: Vec<BTreeSet<u32>>,
    /// The least host of each cell.
    least: Vec<u32>,
    /// The least host of each block of cells.
    blocks: Vec<u32>,
    /// For each number of vCPUs the most quanta of a host that has just so many.
    tops: Vec<Option<u16>>,
    width: usize,
}

impl Grid {
    /// So many empty hosts.
    pub fn new(hosts: usize, rule: Rule) -> Self {
        let width = (quanta() as usize + 1).next_multiple_of(BLOCK);
        let rows = VCPUS as usize + 1;
        let mut grid = Self {
            rule,
            free: vec![(VCPUS as u8, quanta() as u16); hosts],
            cells: vec![BTreeSet::new(); rows * width],
            least: vec![NOBODY; rows * width],
            blocks: vec![NOBODY; rows * width / BLOCK],
            tops: vec![None; rows],
            width,
        };
        (0..hosts as u32).for_each(|host| grid.enter(host));
        grid
    }

    /// Takes what a server of this shape needs from a host.
    pub fn claim(&mut self, host: usize, shape: Shape) {
        self.leave(host as u32);
        let (vcpus, quanta) = self.free[host];
        self.free[host] = (vcpus - shape.vcpus as u8, quanta - shape.quanta as u16);
        self.enter(host as u32);
    }

    /// Gives it back.
    pub fn release(&mut self, host: usize, shape: Shape) {
        self.leave(host as u32);
        let (vcpus, quanta) = self.free[host];
        self.free[host] = (vcpus + shape.vcpus as u8, quanta + shape.quanta as u16);
        self.enter(host as u32);
    }

    /// The best host; of equally good ones the first.
    pub fn best(&self, shape: Shape) -> Option<usize> {
        let (want, quanta) = (shape.vcpus as usize, shape.quanta as usize);
        let rows = want..=VCPUS as usize;
        let host = match self.rule {
            Rule::BestFit => rows.map(|row| self.first(row, quanta)).find(|host| *host != NOBODY),
            Rule::WorstFit => {
                rows.rev().map(|row| self.first(row, quanta)).find(|host| *host != NOBODY)
            }
            Rule::Nova => self.most(want, quanta),
        };
        host.map(|host| host as usize)
    }

    /// The least host with just so many vCPUs and at least so many quanta.
    fn first(&self, row: usize, quanta: usize) -> u32 {
        let start = row * self.width;
        let edge = quanta.next_multiple_of(BLOCK);
        let cells = &self.least[start + quanta..start + edge];
        let blocks = &self.blocks[(start + edge) / BLOCK..(start + self.width) / BLOCK];
        let least = |hosts: &[u32]| hosts.iter().copied().fold(NOBODY, u32::min);
        least(cells).min(least(blocks))
    }

    /// The host with the best sum of normalised free vCPUs and memory.
    fn most(&self, want: usize, quanta: usize) -> Option<u32> {
        let rows = || (want..=VCPUS as usize).rev();
        // For each number of vCPUs only those with most memory can be best.
        let tops = || rows().filter_map(|row| Some((row, self.top(row, quanta)?)));
        let most_vcpus = tops().next()?.0;
        let most_quanta = tops().map(|(_, top)| top).max()?;
        let mut best: Option<(f64, u32)> = None;
        for (row, top) in tops() {
            let (v, q) = (row as f32, top as f32);
            let score = Rule::nova_score(v, q, most_vcpus as f32, most_quanta as f32);
            let host = self.least[row * self.width + top];
            let better =
                best.is_none_or(|(known, least)| score > known || score == known && host < least);
            if better {
                best = Some((score, host));
            }
        }
        best.map(|(_, host)| host)
    }

    /// The most quanta of a host with just so many vCPUs, if any has at least so many.
    fn top(&self, row: usize, quanta: usize) -> Option<usize> {
        self.tops[row].map(usize::from).filter(|top| *top >= quanta)
    }

    /// Looks for it, from the end.
    fn look_for_top(&self, row: usize) -> Option<u16> {
        let start = row * self.width / BLOCK;
        let blocks = &self.blocks[start..start + self.width / BLOCK];
        let block = blocks.iter().rposition(|host| *host != NOBODY)?;
        let cells = &self.least[row * self.width + block * BLOCK..][..BLOCK];
        let top = block * BLOCK + cells.iter().rposition(|host| *host != NOBODY)?;
        Some(top as u16)
    }

    fn cell(&self, host: u32) -> usize {
        let (vcpus, quanta) = self.free[host as usize];
        usize::from(vcpus) * self.width + usize::from(quanta)
    }

    fn enter(&mut self, host: u32) {
        let cell = self.cell(host);
        self.cells[cell].insert(host);
        self.least[cell] = self.least[cell].min(host);
        let block = &mut self.blocks[cell / BLOCK];
        *block = (*block).min(host);
        let (vcpus, quanta) = self.free[host as usize];
        let top = &mut self.tops[usize::from(vcpus)];
        *top = (*top).max(Some(quanta));
    }

    fn leave(&mut self, host: u32) {
        let cell = self.cell(host);
        self.cells[cell].remove(&host);
        if self.least[cell] == host {
            self.least[cell] = self.cells[cell].first().copied().unwrap_or(NOBODY);
            let block = cell / BLOCK;
            if self.blocks[block] == host {
                let cells = &self.least[block * BLOCK..(block + 1) * BLOCK];
                self.blocks[block] = cells.iter().copied().fold(NOBODY, u32::min);
            }
            let (vcpus, quanta) = self.free[host as usize];
            if self.least[cell] == NOBODY && self.tops[usize::from(vcpus)] == Some(quanta) {
                self.tops[usize::from(vcpus)] = self.look_for_top(vcpus.into());
            }
        }
    }
}
