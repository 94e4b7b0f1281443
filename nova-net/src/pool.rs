//! Pools: which address, VLAN or MAC comes next.
//!
//! A [`Pool`] is a value. It knows a range of numbers and which of them are held or resting; a
//! number it knows nothing of is free and was never used. Nothing here reads a store or a clock,
//! and a range of sixteen million addresses costs nothing until they are used.
//!
//! Numbers that were never used come first, in ascending order; after them those that rested
//! longest. So a number is reused as late as possible, which is what keeps a late packet, an ARP
//! entry or a DHCP lease from reaching a new owner. Where many take numbers at the same time,
//! [`draw`](Pool::draw) lets chance decide among the first few, so that they seldom meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use nova_core::clock::Timestamp;
use nova_core::domain::{AddressState, InstanceId, Invalid, Mac};
use nova_core::seed::{Chance, Seed};

/// A range of numbers with what is known of each: addresses as numbers, or VLAN ids.
///
/// ```
/// # use nova_net::pool::{Pick, Pool, Use};
/// # use nova_core::clock::Timestamp;
/// let now = Timestamp(0);
/// let mut pool = Pool::new(1, 3);
/// pool.set(1, Use::Held);
/// assert_eq!(pool.next(now), Ok(Pick::Fresh(2)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    first: u32,
    last: u32,
    uses: BTreeMap<u32, Use>,
    /// The resting ones again, longest first.
    resting: BTreeSet<(Timestamp, u32)>,
    /// The lowest number that was never used; past `last` when there is none. Wider than a
    /// number, so that the end of the last range there is has a successor.
    fresh: u64,
}

/// Why a number is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // held or resting: a third way would need rules of its own
pub enum Use {
    /// Somebody has it, or it is reserved.
    Held,
    /// Given back, and not handed out before this moment.
    Resting(Timestamp),
}

impl<Owner> From<&AddressState<Owner>> for Use {
    fn from(state: &AddressState<Owner>) -> Self {
        match state {
            AddressState::Quarantined { until } => Self::Resting(*until),
            // Whatever state is added one day, it is not free.
            _ => Self::Held,
        }
    }
}

/// The number that comes next, and what the transaction that takes it has to guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // a number has a record or it has none
pub enum Pick {
    /// Never used: there must still be no record of it.
    Fresh(u32),
    /// Rested long enough: its record must still be as it was read.
    Rested(u32),
}

impl Pick {
    /// The number.
    pub const fn number(self) -> u32 {
        match self {
            Self::Fresh(number) | Self::Rested(number) => number,
        }
    }
}

/// Every number is held or resting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("every one is taken")]
#[non_exhaustive]
pub struct Exhausted {
    /// When the first resting one is free again, if one rests.
    pub until: Option<Timestamp>,
}

/// How many numbers are in which state. Their sum is the size of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Can be handed out now.
    pub free: u64,
    /// Resting still.
    pub resting: u64,
    /// Held or reserved.
    pub held: u64,
}

impl Pool {
    /// Numbers among which chance decides: with 16 who take one at once, one in 17 meets another.
    pub const WINDOW: usize = 256;

    /// The same among those that have rested: few, so that each rests for as long as it can.
    pub const RESTED_WINDOW: usize = 16;

    /// All numbers from `first` to `last`, both included; none when `last` is below.
    pub fn new(first: u32, last: u32) -> Self {
        let (uses, resting) = (BTreeMap::new(), BTreeSet::new());
        Self { first, last, uses, resting, fresh: first.into() }
    }

    /// Every address of `range`, also those at its ends.
    pub fn of_range(range: Ipv4Network) -> Self {
        Self::new(range.network().into(), range.broadcast().into())
    }

    /// The addresses of `range` that a host may have: not its first and its last, unless it is
    /// too small to have a network and a broadcast address (one or two addresses).
    pub fn of_hosts(range: Ipv4Network) -> Self {
        let edge = u32::from(range.prefix() < 31);
        Self::new(u32::from(range.network()) + edge, u32::from(range.broadcast()) - edge)
    }

    /// Notes what a number is used for. One outside the pool is ignored.
    pub fn set(&mut self, number: u32, usage: Use) {
        if !(self.first..=self.last).contains(&number) {
            return;
        }
        if let Some(Use::Resting(until)) = self.uses.insert(number, usage) {
            self.resting.remove(&(until, number));
        }
        if let Use::Resting(until) = usage {
            self.resting.insert((until, number));
        }
        while u32::try_from(self.fresh).is_ok_and(|fresh| self.uses.contains_key(&fresh)) {
            self.fresh += 1;
        }
    }

    /// Notes that a number was never used after all.
    pub fn forget(&mut self, number: u32) {
        match self.uses.remove(&number) {
            None => return,
            Some(Use::Resting(until)) => drop(self.resting.remove(&(until, number))),
            Some(Use::Held) => {}
        }
        self.fresh = self.fresh.min(number.into());
    }

    /// What `number` is used for; none when it is free and was never used.
    pub fn usage(&self, number: u32) -> Option<Use> {
        self.uses.get(&number).copied()
    }

    /// The lowest number that was never used.
    pub fn fresh(&self) -> Option<u32> {
        u32::try_from(self.fresh).ok().filter(|fresh| *fresh <= self.last)
    }

    /// The lowest [`WINDOW`](Self::WINDOW) numbers that were never used, in ascending order.
    ///
    /// Whoever removes the pool guards that they stay unused: every later
    /// [`draw`](Self::draw) answers one of them or one that rested.
    pub fn window(&self) -> impl Iterator<Item = u32> {
        let unused = move |number: &u32| !self.uses.contains_key(number);
        let from = self.fresh();
        let numbers = from.into_iter().flat_map(|from| from..=self.last);
        numbers.filter(unused).take(Self::WINDOW)
    }

    /// The number that comes next.
    ///
    /// # Errors
    /// [`Exhausted`] when there is none now.
    pub fn next(&self, now: Timestamp) -> Result<Pick, Exhausted> {
        if let Some(fresh) = self.fresh() {
            return Ok(Pick::Fresh(fresh));
        }
        match self.resting.first() {
            Some((until, number)) if *until <= now => Ok(Pick::Rested(*number)),
            first => Err(Exhausted { until: first.map(|(until, _)| *until) }),
        }
    }

    /// One of the numbers that come next, each equally likely: of the first
    /// [`WINDOW`](Self::WINDOW) that were never used, or else of the
    /// [`RESTED_WINDOW`](Self::RESTED_WINDOW) that rested longest.
    ///
    /// # Errors
    /// [`Exhausted`] when there is none now.
    pub fn draw(&self, now: Timestamp, chance: &mut Chance) -> Result<Pick, Exhausted> {
        let unused: Vec<u32> = self.window().collect();
        if !unused.is_empty() {
            return Ok(Pick::Fresh(unused[chance.index(unused.len())]));
        }
        let rested = self.resting.iter().take_while(|(until, _)| *until <= now);
        let rested: Vec<u32> = rested.take(Self::RESTED_WINDOW).map(|(_, n)| *n).collect();
        if rested.is_empty() {
            return Err(Exhausted { until: self.resting.first().map(|(until, _)| *until) });
        }
        Ok(Pick::Rested(rested[chance.index(rested.len())]))
    }

    /// How many numbers there are.
    pub fn size(&self) -> u64 {
        (u64::from(self.last) + 1).saturating_sub(self.first.into())
    }

    /// How many numbers are in which state.
    pub fn counts(&self, now: Timestamp) -> Counts {
        let held = (self.uses.len() - self.resting.len()) as u64;
        let rested = self.resting.iter().take_while(|(until, _)| *until <= now).count();
        let resting = (self.resting.len() - rested) as u64;
        Counts { free: self.size() - held - resting, resting, held }
    }
}

/// The first three bytes of every MAC that is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacPrefix([u8; 3]);

impl MacPrefix {
    /// The prefix that clouds of this family use.
    pub const FA_16_3E: Self = Self([0xfa, 0x16, 0x3e]);

    /// Checks `bytes`.
    ///
    /// # Errors
    /// [`Invalid`] unless the prefix is unicast and locally administered: no vendor owns it then.
    pub fn new(bytes: [u8; 3]) -> Result<Self, Invalid> {
        if bytes[0] & 0b11 == 0b10 {
            Ok(Self(bytes))
        } else {
            let allowed = "a unicast, locally administered prefix (first byte ends in binary 10)";
            Err(Invalid::new("mac prefix", Self(bytes), allowed))
        }
    }
}

impl std::fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}"))
    }
}

/// How many MACs are tried for one interface. With a million interfaces under one prefix each
/// try collides with a chance of one in sixteen, so that all of them do once in 10^19.
pub const MAC_ATTEMPTS_MAX: usize = 16;

/// The MACs to try for one interface, in this order: [`MAC_ATTEMPTS_MAX`] of them, always the
/// same for the same interface.
pub fn macs(
    prefix: MacPrefix,
    seed: Seed,
    instance: InstanceId,
    index: u8,
) -> impl Iterator<Item = Mac> {
    let seed = seed.child_of("mac", instance.as_u128()).child_of("port", index.into());
    let mut chance = seed.chance();
    let MacPrefix([a, b, c]) = prefix;
    (0..MAC_ATTEMPTS_MAX).filter_map(move |_| {
        let [x, y, z, ..] = chance.bytes();
        // A prefix is unicast, so this is always a MAC.
        Mac::new([a, b, c, x, y, z]).ok()
    })
}

/// The address as a number, and back: what a [`Pool`] of addresses counts in.
pub fn number(address: std::net::IpAddr) -> Option<u32> {
    match address {
        std::net::IpAddr::V4(v4) => Some(v4.into()),
        std::net::IpAddr::V6(_) => None,
    }
}

/// The address that a number of a [`Pool`] stands for.
pub fn address(number: u32) -> std::net::IpAddr {
    Ipv4Addr::from(number).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Timestamp = Timestamp;

    #[test]
    fn numbers_never_used_come_first_and_then_the_longest_rested() {
        let mut pool = Pool::new(1, 3);
        pool.set(1, Use::Resting(T(20)));
        pool.set(2, Use::Resting(T(10)));
        assert_eq!(pool.next(T(99)), Ok(Pick::Fresh(3)));
        pool.set(3, Use::Held);
        assert_eq!(pool.next(T(9)), Err(Exhausted { until: Some(T(10)) }));
        assert_eq!(pool.next(T(99)), Ok(Pick::Rested(2)));
        pool.set(2, Use::Held);
        assert_eq!(pool.next(T(99)), Ok(Pick::Rested(1)));
        pool.set(1, Use::Held);
        assert_eq!(pool.next(T(99)), Err(Exhausted { until: None }));
        pool.forget(2);
        assert_eq!(pool.next(T(0)), Ok(Pick::Fresh(2)));
    }

    #[test]
    fn a_huge_range_costs_nothing() {
        let range = |text: &str| text.parse::<Ipv4Network>().unwrap();
        let pool = Pool::of_range(range("10.0.0.0/8"));
        assert_eq!((pool.size(), pool.fresh()), (1 << 24, Some(0x0a00_0000)));
        assert_eq!(Pool::of_range(range("0.0.0.0/0")).size(), 1 << 32);
        let mut last = Pool::new(u32::MAX, u32::MAX);
        last.set(u32::MAX, Use::Held);
        assert_eq!((last.size(), last.fresh()), (1, None));
    }

    #[test]
    fn the_hosts_of_a_range_exclude_its_ends_where_it_has_ends() {
        let size = |text: &str| Pool::of_hosts(text.parse().unwrap()).size();
        assert_eq!(["10.0.0.0/29", "10.0.0.0/31", "10.0.0.0/32"].map(size), [6, 2, 1]);
    }

    #[test]
    fn a_mac_prefix_belongs_to_no_vendor() {
        assert_eq!(MacPrefix::new([0xfa, 0x16, 0x3e]), Ok(MacPrefix::FA_16_3E));
        for bad in [[0x00, 0x16, 0x3e], [0x01, 0, 0x5e], [0xff, 0xff, 0xff]] {
            assert!(MacPrefix::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_interface_is_always_offered_the_same_macs() {
        let draw = |instance, index| {
            let instance = InstanceId::from_u128(instance);
            macs(MacPrefix::FA_16_3E, Seed::new(7), instance, index).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_eq!(draw(1, 0).len(), MAC_ATTEMPTS_MAX);
        assert!(draw(1, 0).iter().all(|mac| mac.to_string().starts_with("fa:16:3e:")));
    }
}
