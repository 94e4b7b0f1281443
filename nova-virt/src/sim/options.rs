//! How a simulated host behaves: how big, how slow, how unreliable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nova_core::domain::{
    AllocationRatio, ClassStocks, GuestKind, Invalid, NumaTopology, PciDevice, ResourceClass,
    Stock, TraitName,
};

/// A call to a driver, for latencies, failures and counters of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// What the host is and has.
    Facts,
    /// Every guest.
    Guests,
    /// One guest.
    Guest,
    /// Make and start.
    Create,
    /// Remove with the disks.
    Remove,
    /// Start.
    Start,
    /// Shut down.
    Stop,
    /// Restart.
    Reboot,
    /// Freeze.
    Pause,
    /// Go on.
    Unpause,
    /// Put the memory on disk.
    Suspend,
    /// Go on from there.
    Resume,
    /// Plug a volume in.
    Attach,
    /// Pull a volume out.
    Detach,
    /// Describe a guest for another host.
    Pack,
    /// Make a guest of another host.
    Unpack,
    /// Make room for a guest that comes while it runs.
    Expect,
    /// Send a guest while it runs.
    Send,
    /// Complete a guest that came.
    Receive,
    /// Whether a guest is complete.
    IsComplete,
    /// End the sending of a guest.
    Recall,
    /// Store a guest's disk as an image.
    Snapshot,
    /// Boot from a rescue disk.
    Rescue,
    /// Boot from the own disk again.
    Unrescue,
    /// Whether it is rescued.
    Rescued,
    /// What it wrote to its console.
    ReadConsole,
    /// Sit down at its console.
    OpenConsole,
    /// What it uses.
    Used,
    /// Plug an interface in.
    Plug,
    /// Pull an interface out.
    Unplug,
    /// Which interfaces are plugged in.
    Plugged,
    /// Which images are here.
    CachedImages,
    /// Whether the agent in a guest answers, and what it says.
    AskAgent,
    /// Set a password in a guest.
    SetPassword,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 34] = [
        Self::Facts,
        Self::Guests,
        Self::Guest,
        Self::Create,
        Self::Remove,
        Self::Start,
        Self::Stop,
        Self::Reboot,
        Self::Pause,
        Self::Unpause,
        Self::Suspend,
        Self::Resume,
        Self::Attach,
        Self::Detach,
        Self::Pack,
        Self::Unpack,
        Self::Expect,
        Self::Send,
        Self::Receive,
        Self::IsComplete,
        Self::Recall,
        Self::Snapshot,
        Self::Rescue,
        Self::Unrescue,
        Self::Rescued,
        Self::ReadConsole,
        Self::OpenConsole,
        Self::Used,
        Self::Plug,
        Self::Unplug,
        Self::Plugged,
        Self::CachedImages,
        Self::AskAgent,
        Self::SetPassword,
    ];

    /// What it does, as it follows "cannot".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Facts => "describe the host",
            Self::Guests => "list guests",
            Self::Guest => "look up a guest",
            Self::Create => "create a guest",
            Self::Remove => "remove a guest",
            Self::Start => "start a guest",
            Self::Stop => "stop a guest",
            Self::Reboot => "reboot a guest",
            Self::Pause => "pause a guest",
            Self::Unpause => "unpause a guest",
            Self::Suspend => "suspend a guest",
            Self::Resume => "resume a guest",
            Self::Attach => "attach a volume",
            Self::Detach => "detach a volume",
            Self::Pack => "pack a guest",
            Self::Unpack => "unpack a guest",
            Self::Expect => "expect a guest",
            Self::Send => "send a guest",
            Self::Receive => "receive a guest",
            Self::IsComplete => "look whether a guest is complete",
            Self::Recall => "recall a guest",
            Self::Snapshot => "take an image of a guest",
            Self::Rescue => "rescue a guest",
            Self::Unrescue => "end the rescue of a guest",
            Self::Rescued => "tell whether a guest is rescued",
            Self::ReadConsole => "read a guest's console",
            Self::OpenConsole => "open a guest's console",
            Self::Used => "measure a guest",
            Self::Plug => "plug an interface in",
            Self::Unplug => "pull an interface out",
            Self::Plugged => "tell which interfaces are plugged in",
            Self::CachedImages => "list images",
            Self::AskAgent => "ask the agent in a guest",
            Self::SetPassword => "set a password in a guest",
        }
    }
}

/// How long a call takes: between two durations, each equally likely.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    shortest: Duration,
    longest: Duration,
}

impl Latency {
    /// Always the same.
    pub const fn of(time: Duration) -> Self {
        Self { shortest: time, longest: time }
    }

    /// From `shortest` to `longest`, both included.
    ///
    /// # Errors
    /// [`Invalid`] when the longest is shorter than the shortest.
    pub fn between(shortest: Duration, longest: Duration) -> Result<Self, Invalid> {
        if shortest <= longest {
            Ok(Self { shortest, longest })
        } else {
            let value = format!("{longest:?}");
            Err(Invalid::new("latency.longest", value, "at least the shortest latency"))
        }
    }

    /// The least time.
    pub const fn shortest(&self) -> Duration {
        self.shortest
    }

    /// The most time.
    pub const fn longest(&self) -> Duration {
        self.longest
    }
}

/// How often a call goes wrong, and in which way. The three never happen together.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Faults {
    refused: f64,
    answer_lost: f64,
    hang: f64,
}

impl Faults {
    /// How often a call fails and nothing was done.
    ///
    /// # Errors
    /// [`Invalid`] unless it is 0 to 1, and the three together at most 1.
    pub fn with_refused(self, probability: f64) -> Result<Self, Invalid> {
        Self { refused: probability, ..self }.checked("faults.refused", probability)
    }

    /// How often a call fails although it was done.
    ///
    /// # Errors
    /// As for [`with_refused`](Self::with_refused).
    pub fn with_answer_lost(self, probability: f64) -> Result<Self, Invalid> {
        Self { answer_lost: probability, ..self }.checked("faults.answer_lost", probability)
    }

    /// How often a call does not answer until [`SimOptions::with_hang_limit`] is over and then
    /// fails. Whether it was done before, an even chance decides.
    ///
    /// # Errors
    /// As for [`with_refused`](Self::with_refused).
    pub fn with_hang(self, probability: f64) -> Result<Self, Invalid> {
        Self { hang: probability, ..self }.checked("faults.hang", probability)
    }

    fn checked(self, field: &'static str, probability: f64) -> Result<Self, Invalid> {
        let sum = self.refused + self.answer_lost + self.hang;
        // Written so that a NaN is refused too. A hair over 1 is how 0.7 + 0.2 + 0.1 adds up.
        if (0.0..=1.0).contains(&probability) && sum <= 1.0 + 1e-9 {
            Ok(self)
        } else {
            Err(Invalid::new(field, probability, "0 to 1, and all faults together at most 1"))
        }
    }

    /// What becomes of a call whose lot, from 0 up to but not including 1, is `lot`.
    pub(super) fn fate(&self, lot: f64, done_before_hanging: bool) -> Fate {
        if lot < self.refused {
            Fate::Refused
        } else if lot < self.refused + self.answer_lost {
            Fate::AnswerLost
        } else if lot < self.refused + self.answer_lost + self.hang {
            if done_before_hanging { Fate::DoneThenHang } else { Fate::Hang }
        } else {
            Fate::Well
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Well,
    Refused,
    AnswerLost,
    Hang,
    DoneThenHang,
}

/// Whether a host can be full.
///
/// What counts is what a guest of its flavor takes (see
/// [`Flavor::resources`](nova_core::domain::Flavor::resources)), whatever its power state: a guest
/// that is shut down can always be started again. CPUs are shared in time and never run out.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Capacity {
    /// A guest that does not fit is refused with
    /// [`NoRoom`](nova_core::port::VirtError::NoRoom).
    Held {
        /// How much memory may be promised for each mebibyte that is there.
        memory: AllocationRatio,
        /// How much disk may be promised for each gibibyte that is there.
        disk: AllocationRatio,
    },
    /// Every guest fits.
    Unlimited,
}

/// Memory and disk are held to what is physically there.
impl Default for Capacity {
    fn default() -> Self {
        Self::Held { memory: AllocationRatio::ONE, disk: AllocationRatio::ONE }
    }
}

/// How a [`SimHost`](crate::SimHost) behaves. The default answers at once and never fails.
#[derive(Debug, Clone, PartialEq)]
pub struct SimOptions {
    latency: BTreeMap<Verb, Latency>,
    faults: BTreeMap<Verb, Faults>,
    pub(super) hang_limit: Duration,
    pub(super) capacity: Capacity,
    pub(super) guest_kinds: Vec<GuestKind>,
    pub(super) hypervisor: String,
    pub(super) hypervisor_version: u64,
    pub(super) traits: BTreeSet<TraitName>,
    pub(super) classes: ClassStocks,
    pub(super) numa: Option<NumaTopology>,
    pub(super) pci: Vec<PciDevice>,
}

impl SimOptions {
    /// How long a call hangs by default before it fails: 10 minutes.
    pub const HANG_LIMIT: Duration = Duration::from_secs(600);

    /// Sets how long every verb takes; also those that were set before.
    #[must_use]
    pub fn with_latency(mut self, latency: Latency) -> Self {
        self.latency = Verb::ALL.map(|verb| (verb, latency)).into();
        self
    }

    /// Sets how long one verb takes.
    #[must_use]
    pub fn with_latency_of(mut self, verb: Verb, latency: Latency) -> Self {
        self.latency.insert(verb, latency);
        self
    }

    /// Sets how every verb fails; also those that were set before.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = Verb::ALL.map(|verb| (verb, faults)).into();
        self
    }

    /// Sets how one verb fails.
    #[must_use]
    pub fn with_faults_of(mut self, verb: Verb, faults: Faults) -> Self {
        self.faults.insert(verb, faults);
        self
    }

    /// Sets after which time a call that hangs fails, for callers without patience of their own.
    #[must_use]
    pub fn with_hang_limit(mut self, limit: Duration) -> Self {
        self.hang_limit = limit;
        self
    }

    /// Sets whether the host can be full.
    #[must_use]
    pub fn with_capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets which kinds of guest the host says it runs; `x86_64`, `qemu`, `hvm` by default.
    #[must_use]
    pub fn with_guest_kinds(mut self, kinds: Vec<GuestKind>) -> Self {
        self.guest_kinds = kinds;
        self
    }

    /// Sets which hypervisor the host says it has; `simulated`, version 0 by default.
    ///
    /// The version has each part times 1000, as in
    /// [`HostFacts`](nova_core::domain::HostFacts::hypervisor_version).
    #[must_use]
    pub fn with_hypervisor(mut self, name: impl Into<String>, version: u64) -> Self {
        self.hypervisor = name.into();
        self.hypervisor_version = version;
        self
    }

    /// Sets which traits the host says it has; none by default.
    #[must_use]
    pub fn with_traits(mut self, traits: impl IntoIterator<Item = TraitName>) -> Self {
        self.traits = traits.into_iter().collect();
        self
    }

    /// Sets how much the host says it has of a resource class; of none by default.
    #[must_use]
    pub fn with_class(mut self, class: ResourceClass, stock: Stock<u64>) -> Self {
        self.classes.insert(class, stock);
        self
    }

    /// Sets which NUMA cells the host says it has; by default it tells of none.
    #[must_use]
    pub fn with_numa(mut self, cells: NumaTopology) -> Self {
        self.numa = Some(cells);
        self
    }

    /// Sets which PCI devices the host says it has for guests; none by default.
    #[must_use]
    pub fn with_pci(mut self, devices: impl IntoIterator<Item = PciDevice>) -> Self {
        self.pci = devices.into_iter().collect();
        self
    }

    pub(super) fn latency_of(&self, verb: Verb) -> Latency {
        self.latency.get(&verb).copied().unwrap_or_default()
    }

    pub(super) fn faults_of(&self, verb: Verb) -> Faults {
        self.faults.get(&verb).copied().unwrap_or_default()
    }
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            latency: BTreeMap::new(),
            faults: BTreeMap::new(),
            hang_limit: Self::HANG_LIMIT,
            capacity: Capacity::default(),
            guest_kinds: vec![GuestKind {
                architecture: "x86_64".to_owned(),
                hypervisor: "qemu".to_owned(),
                vm_mode: "hvm".to_owned(),
            }],
            hypervisor: "simulated".to_owned(),
            hypervisor_version: 0,
            traits: BTreeSet::new(),
            classes: ClassStocks::new(),
            numa: None,
            pci: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_not_longer_than_its_longest() {
        let ms = Duration::from_millis;
        let latency = Latency::between(ms(2), ms(1));
        assert_eq!(latency.map_err(|e| e.field), Err("latency.longest"));
        assert!(Latency::between(ms(1), ms(1)).is_ok());
    }

    #[test]
    fn probabilities_are_0_to_1_and_so_is_their_sum() {
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Faults::default().with_hang(bad).is_err(), "{bad}");
        }
        let most = Faults::default().with_refused(0.7).and_then(|f| f.with_answer_lost(0.2));
        assert!(most.clone().and_then(|f| f.with_hang(0.1)).is_ok());
        assert_eq!(most.and_then(|f| f.with_hang(0.2)).map_err(|e| e.field), Err("faults.hang"));
    }

    #[test]
    fn fates_divide_the_lots_in_the_order_of_the_fields() {
        let faults = Faults { refused: 0.25, answer_lost: 0.25, hang: 0.25 };
        let fates = [0.0, 0.25, 0.5, 0.75].map(|lot| faults.fate(lot, false));
        assert_eq!(fates, [Fate::Refused, Fate::AnswerLost, Fate::Hang, Fate::Well]);
        assert_eq!(faults.fate(0.5, true), Fate::DoneThenHang);
        assert_eq!(Faults::default().fate(0.0, true), Fate::Well);
    }
}
