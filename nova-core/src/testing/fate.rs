//! Which faults happen: drawn by seed, numbered, counted, and replayable in part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::seed::{Chance, Seed};

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident $name:literal $most:literal;)+) => {
        /// Something that goes wrong in a simulated cloud.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize,
        )]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$doc])* $fault,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$fault),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$fault => $name,)+ }
            }

            /// The highest probability with which a run lets it happen at each opportunity.
            const fn most(self) -> f64 {
                match self { $(Self::$fault => $most,)+ }
            }
        }
    };
}

faults! {
    /// A message never arrives.
    LoseMessage "lose-message" 0.15;
    /// A message arrives a second time, possibly much later.
    DoubleMessage "double-message" 0.15;
    /// A message arrives late, after others that were sent later.
    DelayMessage "delay-message" 0.2;
    /// What was asked is done, and the answer never arrives.
    LoseReply "lose-reply" 0.1;
    /// Nothing gets through to a host for a while.
    CutHost "cut-host" 0.08;
    /// A commit conflicts although nobody changed anything.
    FalseConflict "false-conflict" 0.1;
    /// A commit is done, and nobody can say so.
    UnknownDone "unknown-done" 0.08;
    /// A commit is not done, and nobody can say so.
    UnknownLost "unknown-lost" 0.08;
    /// A process cannot reach the store, or finds its disk full, for a while.
    StoreGone "store-gone" 0.08;
    /// The store takes its time.
    StoreSlow "store-slow" 0.1;
    /// A driver says yes and does nothing.
    FalseYes "false-yes" 0.15;
    /// A driver does it and says no.
    FalseNo "false-no" 0.15;
    /// A driver refuses.
    Refusal "refusal" 0.15;
    /// A driver never answers.
    Hang "hang" 0.08;
    /// A driver takes its time.
    HostSlow "host-slow" 0.15;
    /// A host loses power, and gets it back later: its guests are shut down then.
    PowerLoss "power-loss" 0.05;
    /// The clock of a process is fast or slow by up to one percent.
    Drift "drift" 1.0;
    /// The clock of a process jumps forward.
    Jump "jump" 0.05;
    /// A conductor dies and starts again.
    KillConductor "kill-conductor" 0.08;
    /// An agent dies and starts again.
    KillAgent "kill-agent" 0.08;
    /// A client dies in the middle of a call and asks again with the same request id.
    KillClient "kill-client" 0.15;
    /// A process does not run for a while, and does not know it.
    Pause "pause" 0.08;
    /// The scheduler names any host, whether it fits or not.
    WrongHost "wrong-host" 0.3;
    /// A store of volumes or images refuses.
    StorageRefusal "storage-refusal" 0.15;
    /// A store of volumes or images does it and says no.
    StorageFalseNo "storage-false-no" 0.15;
    /// A store of volumes or images takes its time.
    StorageSlow "storage-slow" 0.1;
    /// What a conductor says reaches nobody for a while; the store it reaches.
    CutConductor "cut-conductor" 0.08;
    /// A process hears of changes in the store late.
    WatchLag "watch-lag" 0.05;
    /// A process hears nothing more of the store until it reads everything again.
    WatchLost "watch-lost" 0.01;
    /// A host does not tell of a change of a guest.
    UntoldChange "untold-change" 0.5;
}

/// One fault that happened: the nth opportunity for it in its run.
pub type Fired = (Fault, u64);

/// Which of the faults that a seed draws may happen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allow {
    /// All of them.
    #[default]
    Drawn,
    /// Those among these: how a schedule is replayed and made smaller.
    Only(BTreeSet<Fired>),
}

/// Decides which faults happen. Each kind has a stream of its own, so that the same opportunity
/// has the same number in every run of a seed that was the same up to there.
#[derive(Debug)]
pub struct Fate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    awake: bool,
    allow: Allow,
    kinds: BTreeMap<Fault, Kind>,
    fired: Vec<Fired>,
}

#[derive(Debug)]
struct Kind {
    strength: f64,
    seed: Seed,
    chance: Chance,
    opportunities: u64,
}

/// A fault that happens now, with a source of numbers for how exactly.
#[derive(Debug)]
pub struct Strike(Chance);

impl Strike {
    /// A time between `least` and `most`.
    pub fn time(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.0.unit())
    }

    /// An index into something of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        self.0.index(len)
    }

    /// A number from 0 up to but not including 1.
    pub fn unit(&mut self) -> f64 {
        self.0.unit()
    }
}

impl Fate {
    /// Draws which kinds of fault are on, and how strongly. One run in ten has none.
    pub fn swarm(seed: Seed, allow: Allow) -> Self {
        let mut chance = seed.child("swarm").chance();
        let calm = chance.happens(0.1);
        let share = 0.2 + 0.6 * chance.unit();
        let kinds = Fault::ALL.iter().map(|fault| {
            let (on, depth) = (chance.happens(share), chance.unit());
            // Most runs are gentle: strong faults leave little that could go wrong otherwise.
            let strength = if on && !calm { fault.most() * depth * depth } else { 0.0 };
            let seed = seed.child(fault.name());
            (*fault, Kind { strength, seed, chance: seed.chance(), opportunities: 0 })
        });
        let kinds = kinds.collect();
        Self { state: Mutex::new(State { awake: false, allow, kinds, fired: Vec::new() }) }
    }

    /// Nothing ever happens.
    pub fn kind() -> Self {
        let (kinds, fired) = (BTreeMap::new(), Vec::new());
        Self { state: Mutex::new(State { awake: false, allow: Allow::Drawn, kinds, fired }) }
    }

    /// Whether `fault` can ever happen in this run.
    pub fn draws(&self, fault: Fault) -> bool {
        self.lock().kinds.get(&fault).is_some_and(|kind| kind.strength > 0.0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on faults happen.
    pub fn wake(&self) {
        self.lock().awake = true;
    }

    /// From now on none does.
    pub fn sleep(&self) {
        self.lock().awake = false;
    }

    /// Whether faults happen now.
    pub fn is_awake(&self) -> bool {
        self.lock().awake
    }

    /// Whether `fault` happens at this opportunity.
    pub fn strikes(&self, fault: Fault) -> Option<Strike> {
        let state = &mut *self.lock();
        if !state.awake {
            return None;
        }
        let kind = state.kinds.get_mut(&fault)?;
        kind.opportunities += 1;
        if !kind.chance.happens(kind.strength) {
            return None;
        }
        let fired = (fault, kind.opportunities);
        if let Allow::Only(these) = &state.allow
            && !these.contains(&fired)
        {
            return None;
        }
        state.fired.push(fired);
        Some(Strike(kind.seed.child_of("how", kind.opportunities.into()).chance()))
    }

    /// Everything that happened so far, in order.
    pub fn fired(&self) -> Vec<Fired> {
        self.lock().fired.clone()
    }
}
