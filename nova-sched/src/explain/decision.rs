//! Decisions as data, which can be replayed.

use std::cmp::Ordering;
use std::fmt::Write as _;

use nova_core::domain::{
    Funnel, HostId, HostTable, InstanceId, RequestSpec, Slot, TableIdentity, TableRevision,
};
use nova_core::seed::Seed;
use sha2::{Digest as _, Sha256};

use crate::FilterScheduler;
use crate::hex::hex;
use crate::normalise::Scale;
use crate::pipeline::Ranking;
use crate::tally::{Chosen, Counts, Tally};

/// How one request was decided: everything that led to the answer, as data.
///
/// The same policy asked about the same hosts gives the same record to the last byte of
/// [`to_bytes`](Self::to_bytes); [`replay`](Self::replay) does that.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Decision {
    /// The version of this form; [`Decision::VERSION`] is the one written.
    pub version: u32,
    /// The name of the policy.
    pub policy: String,
    /// SHA-256, in hex, of all that the policy is: filters and weighers with their options in their
    /// order, multipliers, rules, subset, ties. Functions without options count by their name.
    pub policy_hash: String,
    /// SHA-256, in hex, of all hosts and the request.
    pub input_hash: String,
    /// The seed.
    pub seed: Seed,
    /// How many candidates are told of each instance.
    pub top: usize,
    /// What was asked for.
    pub request: RequestSpec,
    /// Instance after instance, up to the last or the first that found no host.
    pub choices: Vec<Choice>,
    /// What came of it.
    pub outcome: Outcome,
    /// What became of the answer afterwards, as whoever asked has noted it.
    pub conflicts: Vec<Conflict>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A host for each instance.
    Placed(Vec<HostId>),
    /// Not every instance found a host, and none is placed.
    NoValidHost,
}

/// How the host of one instance was chosen.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Choice {
    /// The instance.
    pub instance: InstanceId,
    /// How many hosts each filter refused, and why.
    pub funnel: Funnel,
    /// How many hosts passed.
    pub passed: usize,
    /// The best of them, best first.
    pub candidates: Vec<Candidate>,
    /// How many share the best score.
    pub tied: usize,
    /// What chance had to do with it.
    pub draw: Draw,
    /// The host.
    pub host: Option<HostId>,
}

/// What chance had to do with a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Draw {
    /// How many of the best, all equally good, were shuffled; 0 where they stay in order.
    pub shuffled: usize,
    /// Among how many of the best the host was drawn; 1 when the best was taken.
    pub among: usize,
    /// Which of these it was, from 0 on, after shuffling.
    pub drawn: usize,
}

/// A host that passed, and what its score is made of.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Candidate {
    /// The host.
    pub host: HostId,
    /// The sum of what each weigher adds, added up in this order.
    pub score: f64,
    /// Weigher by weigher, in the order of the policy.
    pub parts: Vec<WeightPart>,
}

/// What one weigher adds to a score.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WeightPart {
    /// The weigher.
    pub weigher: String,
    /// What it says of the host, within its ends.
    pub raw: f64,
    /// Where that lies between the least and the greatest of all that passed, mostly 0 to 1. With
    /// a single host nothing is weighed, and this is 0.
    pub normalised: f64,
    /// With what that is multiplied on this host.
    pub multiplier: f64,
    /// The product.
    pub weighted: f64,
}

/// An answer that could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Conflict {
    /// The host.
    pub host: HostId,
    /// What was in the way: a claim that was made meanwhile, a build that failed.
    pub reason: String,
}

/// A decision that cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It was written in another form.
    #[error("the record has version {recorded}, not {}", Decision::VERSION)]
    Version {
        /// Its version.
        recorded: u32,
    },
    /// The policy is another one.
    #[error("the policy is not {recorded}, with which it was decided, but {given}")]
    Policy {
        /// Name and hash of the policy that decided.
        recorded: String,
        /// Those of the one that is asked now.
        given: String,
    },
    /// The hosts are not as they were.
    #[error("the hosts have the hash {given}, not {recorded} as when it was decided")]
    Hosts {
        /// The hash of hosts and request when it was decided.
        recorded: String,
        /// The hash now.
        given: String,
    },
    /// The same question had another answer: a filter or a weigher breaks the row contract.
    #[error("the same question has another answer now")]
    Differs,
}

impl Decision {
    /// The form in which decisions are written.
    pub const VERSION: u32 = 1;

    /// Its bytes: JSON, the same for the same decision.
    ///
    /// # Errors
    /// When a number is beyond what JSON has, which [`Rules::Strict`](crate::Rules) excludes.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Notes that the answer could not be carried out on one of the hosts.
    pub fn note_conflict(&mut self, host: HostId, reason: impl Into<String>) {
        self.conflicts.push(Conflict { host, reason: reason.into() });
    }

    /// Decides the same again. What was noted afterwards is taken over.
    ///
    /// # Errors
    /// [`ReplayError`] says what is not as it was.
    pub fn replay(&self, policy: &FilterScheduler, hosts: &HostTable) -> Result<Self, ReplayError> {
        if self.version != Self::VERSION {
            return Err(ReplayError::Version { recorded: self.version });
        }
        let mut again = policy.decide(hosts, &self.request, self.seed, self.top);
        if again.policy_hash != self.policy_hash || again.policy != self.policy {
            let named = |of: &Self| format!("{} ({})", of.policy, of.policy_hash);
            return Err(ReplayError::Policy { recorded: named(self), given: named(&again) });
        }
        if again.input_hash != self.input_hash {
            let (recorded, given) = (self.input_hash.clone(), again.input_hash);
            return Err(ReplayError::Hosts { recorded, given });
        }
        again.conflicts.clone_from(&self.conflicts);
        if again == *self { Ok(again) } else { Err(ReplayError::Differs) }
    }
}

/// Decides requests and tells how.
///
/// It follows a table's changes, so that each record costs what was changed since the last, not a
/// look at every host. Every host is asked, as under
/// [`Lookup::RowByRow`](crate::Lookup); the hosts are those that `select` finds.
///
/// ```
/// # use std::sync::Arc;
/// # use nova_core::domain::*;
/// use nova_core::port::Scheduler;
/// use nova_core::seed::Seed;
/// use nova_sched::FilterScheduler;
/// use nova_sched::explain::{Outcome, Recorder};
///
/// # let zone = ZoneName::new("z")?;
/// # let host = |id: u128| {
/// #     let total = Resources { vcpus: Vcpus(8), memory: MiB(4096), disk: GiB(10) };
/// #     let name = HostName::new(format!("host-{id}"))?;
/// #     Ok::<_, Invalid>(HostState::new(HostId::from_u128(id), name, zone.clone(), Inventory::new(total)))
/// # };
/// # let flavor = Arc::new(Flavor::new(FlavorName::new("small")?, Vcpus(2), MiB(512))?);
/// # let request = RequestSpec::new(InstanceId::from_u128(1), ProjectId::new("p")?, flavor);
/// let hosts = HostTable::new([host(1)?, host(2)?]);
/// let policy = FilterScheduler::nova();
/// let mut recorder = Recorder::new(policy.clone(), 3);
/// let decision = recorder.decide(&hosts, &request, Seed::new(1));
/// let selected = policy.select(&hosts, &request, Seed::new(1))?.hosts;
/// assert_eq!(decision.outcome, Outcome::Placed(selected));
/// assert_eq!(decision.choices[0].candidates.len(), 2);
/// assert_eq!(decision.replay(&policy, &hosts)?.to_bytes()?, decision.to_bytes()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Recorder {
    policy: FilterScheduler,
    policy_hash: String,
    top: usize,
    hosts: Option<HostHashes>,
}

impl Recorder {
    /// One that tells of so many candidates of each instance.
    pub fn new(policy: FilterScheduler, top: usize) -> Self {
        let mut text = String::new();
        let FilterScheduler { filters, weighers, subset_size, ties, rules, .. } = &policy;
        // A string takes whatever is written into it.
        let _ = write!(text, "{:?}", (filters, weighers, subset_size, ties, rules));
        let policy_hash = hex(&Sha256::digest(text));
        Self { policy, policy_hash, top, hosts: None }
    }

    /// Finds hosts for `request` as `select` does, and tells how.
    pub fn decide(&mut self, hosts: &HostTable, request: &RequestSpec, seed: Seed) -> Decision {
        let input_hash = self.input_hash(hosts, request);
        let place = |seed: Option<Seed>| {
            let mut tally = Recording {
                policy: &self.policy,
                top: self.top,
                hosts: 0,
                counts: Counts::default(),
                choices: Vec::new(),
            };
            let placed = self.policy.place(hosts, request, seed, &mut tally);
            (placed.map(|placement| placement.hosts), tally.choices)
        };
        let (mut placed, mut choices) = place(Some(seed));
        if placed.is_err() && request.instances.len() > 1 {
            // As in `select`: several instances may fit together where the draw was unlucky.
            (placed, choices) = place(None);
        }
        Decision {
            version: Decision::VERSION,
            policy: self.policy.to_string(),
            policy_hash: self.policy_hash.clone(),
            input_hash,
            seed,
            top: self.top,
            request: request.clone(),
            choices,
            outcome: placed.map_or(Outcome::NoValidHost, Outcome::Placed),
            conflicts: Vec::new(),
        }
    }

    fn input_hash(&mut self, hosts: &HostTable, request: &RequestSpec) -> String {
        let known = self.hosts.take().filter(|known| known.identity == *hosts.identity());
        let mut known = known.unwrap_or_else(|| HostHashes::none(hosts));
        known.follow(hosts);
        let mut hash = Sha256::new();
        hash.update((hosts.len() as u64).to_le_bytes());
        known.sum.iter().for_each(|lane| hash.update(lane.to_le_bytes()));
        // A request is a plain tree with string keys, which JSON can always hold.
        hash.update(serde_json::to_vec(request).unwrap_or_default());
        self.hosts = Some(known);
        hex(&hash.finalize())
    }
}

impl FilterScheduler {
    /// Finds hosts for `request` as `select` does, and tells how, with so many candidates of each
    /// instance. Who decides often uses a [`Recorder`].
    pub fn decide(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
        top: usize,
    ) -> Decision {
        Recorder::new(self.clone(), top).decide(hosts, request, seed)
    }
}

/// A hash of every host, and their sum, which follows the changes of a table.
#[derive(Debug)]
struct HostHashes {
    identity: TableIdentity,
    /// Up to where the table is known; none when nothing is.
    revision: Option<TableRevision>,
    by_slot: Vec<Option<Lanes>>,
    sum: Lanes,
}

/// A SHA-256 hash as four numbers.
type Lanes = [u64; 4];

impl HostHashes {
    fn none(hosts: &HostTable) -> Self {
        let (by_slot, sum) = Default::default();
        Self { identity: hosts.identity().clone(), revision: None, by_slot, sum }
    }

    fn follow(&mut self, hosts: &HostTable) {
        self.by_slot.resize(hosts.slots_end().max(self.by_slot.len()), None);
        let changed = self.revision.and_then(|revision| hosts.changed_since(revision));
        let slots: Vec<Slot> = match changed {
            Some(changed) => changed.collect(),
            None => (0..self.by_slot.len()).map(|slot| Slot(slot as u32)).collect(),
        };
        for slot in slots {
            let now = hosts.at(slot).map(|row| lanes(row.digest()));
            let before = std::mem::replace(&mut self.by_slot[slot.index()], now);
            for (lane, sum) in self.sum.iter_mut().enumerate() {
                *sum = sum.wrapping_sub(before.map_or(0, |before| before[lane]));
                *sum = sum.wrapping_add(now.map_or(0, |now| now[lane]));
            }
        }
        self.revision = Some(hosts.revision());
    }
}

fn lanes(digest: [u8; 32]) -> Lanes {
    let mut lanes = Lanes::default();
    for (lane, bytes) in lanes.iter_mut().zip(digest.as_chunks::<8>().0) {
        *lane = u64::from_le_bytes(*bytes);
    }
    lanes
}

/// Writes down what is told while a request is placed.
struct Recording<'a> {
    policy: &'a FilterScheduler,
    top: usize,
    /// Candidates of the present instance.
    hosts: usize,
    counts: Counts,
    choices: Vec<Choice>,
}

impl Tally for Recording<'_> {
    const ALL: bool = true;

    fn begins(&mut self, candidates: usize) {
        (self.hosts, self.counts) = (candidates, Counts::default());
    }

    fn runs(&mut self, filter: usize) {
        self.counts.runs(filter);
    }

    fn refused(&mut self, filter: usize, reason: crate::Reason) {
        self.counts.refused(filter, reason);
    }

    fn failed(&mut self, filter: usize, reason: crate::Reason) {
        self.counts.failed(filter, reason);
    }

    fn undefined(&mut self, weigher: usize) {
        self.counts.undefined(weigher);
    }

    fn chose(&mut self, chosen: &Chosen<'_>) {
        let Chosen { instance, view, ranking, drawn, host } = *chosen;
        let counts = std::mem::take(&mut self.counts);
        let parts = Parts::new(self.policy, ranking);
        let best = best(ranking, self.top.max(1));
        let score = |at: usize| ranking.score[at];
        let first = best.first().map(|at| score(*at));
        let host_at = |at: usize| view.row(ranking.passed[at]).map(|row| row.id);
        let told = best.iter().take(self.top);
        let (among, nth) = drawn.subset.unwrap_or((1, 0));
        self.choices.push(Choice {
            instance,
            funnel: counts.into_funnel(self.policy, self.hosts),
            passed: ranking.passed.len(),
            candidates: told.filter_map(|at| Some(parts.of(*at, host_at(*at)?))).collect(),
            tied: ranking.score.iter().filter(|score| Some(**score) == first).count(),
            draw: Draw { shuffled: drawn.shuffled, among, drawn: nth },
            host,
        });
    }
}

/// The best of those that passed, best first; ties in their order.
fn best(ranking: &Ranking, top: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..ranking.passed.len()).collect();
    // Scores are finite, so any two can be compared.
    let better = |a: &usize, b: &usize| {
        let scores = ranking.score[*b].partial_cmp(&ranking.score[*a]);
        scores.unwrap_or(Ordering::Equal).then(a.cmp(b))
    };
    if top < places.len() {
        places.select_nth_unstable_by(top, better);
        places.truncate(top);
    }
    places.sort_unstable_by(better);
    places
}

/// What the scores of a ranking are made of.
struct Parts<'a> {
    policy: &'a FilterScheduler,
    ranking: &'a Ranking,
    scales: Vec<Scale>,
}

impl<'a> Parts<'a> {
    fn new(policy: &'a FilterScheduler, ranking: &'a Ranking) -> Self {
        let scales = (0..policy.weighers.len()).map(|nth| policy.scale(ranking, nth)).collect();
        Self { policy, ranking, scales }
    }

    fn of(&self, at: usize, host: HostId) -> Candidate {
        let width = self.scales.len();
        let alone = self.ranking.passed.len() < 2;
        let raw = &self.ranking.raw[at * width..(at + 1) * width];
        let weighings = self.policy.weighers.iter().zip(&self.scales).zip(raw);
        let parts = weighings.map(|((weighing, scale), (raw, multiplier))| {
            let normalised = if alone { 0.0 } else { scale.map(*raw) };
            WeightPart {
                weigher: weighing.weigher.name().to_owned(),
                raw: *raw,
                normalised,
                multiplier: *multiplier,
                weighted: multiplier * normalised,
            }
        });
        Candidate { host, score: self.ranking.score[at], parts: parts.collect() }
    }
}

/// A host that passed, and what its score is made of.
pub(super) fn candidate(
    policy: &FilterScheduler,
    ranking: &Ranking,
    at: usize,
    host: HostId,
) -> Candidate {
    Parts::new(policy, ranking).of(at, host)
}
