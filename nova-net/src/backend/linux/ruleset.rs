//! The firewall of a namespace, read only when somebody may have changed it.
//!
//! The kernel numbers its ruleset: every change of it, whoever makes it, adds one. As long as the
//! number is what it was, what was read is still there, and no program has to be run to see that.

use std::io;
use std::sync::Arc;

use nova_core::clock::Meter;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

use super::firewall::{Firewall, FirewallError};

/// Asks the kernel for the number of its ruleset.
struct Counter(Socket);

/// The firewall of the namespace in which it was made.
pub(super) struct Ruleset {
    counter: Counter,
    /// The number under which this was there; without our tables, none.
    known: Option<(u32, Option<Arc<Firewall>>)>,
    /// What adds up how long `nft` takes.
    meter: Option<Meter>,
}

impl Ruleset {
    pub(super) fn new(meter: Option<Meter>) -> io::Result<Self> {
        Ok(Self { counter: Counter::new()?, known: None, meter })
    }

    /// What the kernel holds; none when our tables are not there as they should be.
    pub(super) fn now(&mut self) -> Result<Option<Arc<Firewall>>, FirewallError> {
        let before = self.counter.now()?;
        if let Some((number, firewall)) = &self.known
            && *number == before
        {
            return Ok(firewall.clone());
        }
        let waiting = self.meter.as_ref().map(Meter::wait);
        let firewall = Firewall::now()?.map(Arc::new);
        drop(waiting);
        self.known = (self.counter.now()? == before).then(|| (before, firewall.clone()));
        Ok(firewall)
    }

    /// Makes the kernel hold `to` instead of `from`, in one batch.
    pub(super) fn change(
        &mut self,
        from: &Firewall,
        to: &Arc<Firewall>,
    ) -> Result<(), FirewallError> {
        match from.batch(to) {
            Some(batch) => self.keeping(Some(to), || Firewall::take(&batch)),
            None => Ok(()),
        }
    }

    /// Lays our tables anew, empty.
    pub(super) fn lay(&mut self) -> Result<Arc<Firewall>, FirewallError> {
        let empty = Arc::new(Firewall::default());
        self.keeping(Some(&empty), Firewall::lay)?;
        Ok(empty)
    }

    /// Removes our tables.
    pub(super) fn clear(&mut self) -> Result<(), FirewallError> {
        self.keeping(None, Firewall::clear)
    }

    /// Makes one change, after which this is there, when nobody else has made one meanwhile.
    fn keeping(
        &mut self,
        after: Option<&Arc<Firewall>>,
        change: impl FnOnce() -> Result<(), FirewallError>,
    ) -> Result<(), FirewallError> {
        let known = self.known.take();
        let waiting = self.meter.as_ref().map(Meter::wait);
        change()?;
        drop(waiting);
        let now = self.counter.now()?;
        let alone = known.is_some_and(|(number, _)| number.wrapping_add(1) == now);
        self.known = alone.then(|| (now, after.cloned()));
        Ok(())
    }
}

/// A netlink message of nftables: what it asks or tells.
const fn kind(message: u16) -> u16 {
    const NFTABLES: u16 = 10;
    NFTABLES << 8 | message
}

const NEW_NUMBER: u16 = kind(15);
const GET_NUMBER: u16 = kind(16);
/// The attribute that holds the number.
const NUMBER: u16 = 1;

impl Counter {
    fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    fn now(&self) -> io::Result<u32> {
        // Its length, its kind, that it is a request, and of what family: of all.
        let header = [&20_u32.to_ne_bytes()[..], &GET_NUMBER.to_ne_bytes(), &1_u16.to_ne_bytes()];
        let request = [&header.concat()[..], &[0; 12]].concat();
        self.0.send(&request, 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        number(&answer).ok_or_else(|| io::Error::other("the kernel tells no number of its rules"))
    }
}

/// The number that an answer tells.
fn number(answer: &[u8]) -> Option<u32> {
    let short = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if short(4)? != NEW_NUMBER {
        return None;
    }
    let mut at = 20;
    loop {
        let (length, attribute) = (usize::from(short(at)?), short(at + 2)?);
        if attribute == NUMBER {
            return Some(u32::from_be_bytes(answer.get(at + 4..at + 8)?.try_into().ok()?));
        }
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_and_nothing_else_is_taken_for_it() {
        let answer = |kind: u16, attribute: u16| {
            let head = [&28_u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 14]].concat();
            let other = [&6_u16.to_ne_bytes()[..], &9_u16.to_ne_bytes(), &[7, 7, 0, 0]].concat();
            let number = [&8_u16.to_ne_bytes()[..], &attribute.to_ne_bytes(), &[0, 0, 1, 2]];
            [head, other, number.concat()].concat()
        };
        assert_eq!(number(&answer(NEW_NUMBER, NUMBER)), Some(258));
        assert_eq!(number(&answer(2, NUMBER)), None);
        assert_eq!(number(&answer(NEW_NUMBER, 5)), None);
        assert_eq!(number(&[]), None);
    }
}
