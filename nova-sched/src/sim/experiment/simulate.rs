//! One run of an experiment.

use std::sync::Arc;

use nova_core::port::Scheduler;
use nova_core::seed::Seed;

use super::ExperimentError;
use super::bench::{Bench, Job, Progress};
use super::config::{NamedCluster, PlannerConfig, wrong};
use super::input::Looked;
use super::runs::Run;
use crate::FilterScheduler;
use crate::sim::policies::{Consolidate, Defragment, PowerOfK, Relieve, registry};
use crate::sim::{Cluster, Event, Planner, Report, Simulation, Watcher, World};

impl Bench {
    pub(super) fn simulate(
        &self,
        job: &Job,
        nth: usize,
        progress: &dyn Progress,
    ) -> Result<Report, ExperimentError> {
        let run = &job.run;
        let seed = Seed::new(run.seed);
        let cluster = run.cluster.of(&job.looked)?;
        let policies = self.policies(run, &cluster, &job.looked)?;
        let schedulers: Vec<&dyn Scheduler> = policies.iter().map(|policy| &**policy).collect();
        let span_s = run.trace.window_s.unwrap_or(job.looked.last_arrival_s);
        let mut told = Told { progress, nth, span_ms: span_s.saturating_mul(1000) };
        let mut planner = run.policy.planner.map(PlannerConfig::planner);
        let failed = |error| {
            let source = Box::new(error);
            ExperimentError::Simulation { run: run.name(), source }
        };
        let mut simulation =
            Simulation::new(cluster, schedulers[0], run.scenario.clone(), seed).map_err(failed)?;
        simulation =
            simulation.with_schedulers(schedulers[1..].iter().copied()).with_watcher(&mut told);
        if let Some(recorded) = &job.looked.recorded {
            simulation = simulation.with_requests(Arc::clone(&recorded.requests));
        }
        if let (Some(courses), Some(config)) = (&job.looked.courses, &run.trace.courses) {
            simulation = simulation.with_courses(Arc::clone(courses), config.follow);
        }
        if let Some(planner) = &mut planner {
            simulation = simulation.with_planner(&mut **planner);
        }
        simulation.run(run.trace.seen_by(&job.looked, seed)?).map_err(failed)
    }

    /// A policy for each scheduler that the scenario has.
    pub(super) fn policies(
        &self,
        run: &Run,
        cluster: &Cluster,
        looked: &Looked,
    ) -> Result<Vec<Box<dyn Scheduler>>, ExperimentError> {
        let named = &run.policy;
        let failed = |source| ExperimentError::Policy { policy: named.name.clone(), source };
        let known = registry(cluster, &looked.shapes).map_err(failed)?;
        let name = named.of.as_deref().unwrap_or(&named.name);
        let policy: FilterScheduler = match &named.config {
            Some(config) => known.build(&named.name, config),
            None => match (known.policy(name), &self.more) {
                (Err(_), Some(more)) => more.policy(name),
                (known, _) => known,
            },
        }
        .map_err(failed)?;
        let count = run.scenario.schedulers.map_or(1, |several| several.count);
        let policies = (0..count).map(|_| {
            let policy = policy.clone();
            Ok(match named.power_of {
                Some(k) => Box::new(PowerOfK::new(k, policy)?) as Box<dyn Scheduler>,
                None => Box::new(policy),
            })
        });
        policies.collect()
    }
}

impl NamedCluster {
    /// The cluster, for this trace.
    pub(super) fn of(&self, looked: &Looked) -> Result<Cluster, ExperimentError> {
        match &looked.recorded {
            Some(recorded) if self.recorded => Ok(recorded.cluster.clone()),
            None if self.recorded => {
                let what = "has no hosts: it is no log of decisions";
                Err(wrong(format!(
                    "trace {:?} {what}, and cluster {:?} needs them",
                    looked.trace, self.name
                )))
            }
            _ => Ok(Cluster::new(&self.config())?),
        }
    }
}

impl PlannerConfig {
    fn planner(self) -> Box<dyn Planner> {
        match self {
            Self::Consolidate { below } => Box::new(Consolidate { below, keeps_spare: true }),
            Self::Defragment { wanted } => Box::new(Defragment { wanted }),
            Self::Relieve { above } => Box::new(Relieve { above }),
        }
    }
}

/// Tells how far a run is.
struct Told<'p> {
    progress: &'p dyn Progress,
    nth: usize,
    span_ms: u64,
}

impl std::fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl Watcher for Told<'_> {
    fn saw(&mut self, _: &World, _: &Event) {}

    fn sampled(&mut self, world: &World) {
        let share = world.now().millis() as f64 / self.span_ms.max(1) as f64;
        self.progress.goes_on(self.nth, share.min(1.0));
    }
}
