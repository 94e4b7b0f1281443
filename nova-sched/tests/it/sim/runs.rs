//! A simulation as data: what goes in, and the log and the report that come out.

use std::sync::Arc;

use nova_core::domain::*;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::sim::policies::{Consolidate, Defragment, PowerOfK, Relieve, registry};
use nova_sched::sim::trace::TraceError;
use nova_sched::sim::{
    Cluster, ClusterConfig, Courses, EventLog, Follow, Planner, Report, Scenario, Simulation,
    SimulationError, TraceRow,
};

use super::checker::{self, Given, Row};

/// Who chooses hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Named(&'static str),
    Few(usize),
}

/// Who moves VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mover {
    Nobody,
    Consolidate,
    Defragment,
    Relieve,
}

/// Everything that goes into a simulation.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) cluster: ClusterConfig,
    pub(super) rows: Vec<Row>,
    pub(super) scenario: Scenario,
    pub(super) policy: Policy,
    pub(super) mover: Mover,
    pub(super) courses: Option<Given>,
    pub(super) seed: u64,
}

pub(super) fn trace_row(row: &Row, line: u64) -> TraceRow {
    TraceRow {
        line,
        vm: row.vm,
        arrival_s: row.arrival_s,
        end_s: row.end_s,
        vcpus: Vcpus(row.takes[0] as u32),
        memory: MiB(row.takes[1]),
        disk: GiB(row.takes[2]),
        priority: row.priority,
        gang: row.gang,
        cpu_permille: row.cpu_permille,
    }
}

pub(super) fn trace(rows: &[Row]) -> Vec<Result<TraceRow, TraceError>> {
    rows.iter().zip(1..).map(|(row, line)| Ok(trace_row(row, line))).collect()
}

pub(super) fn planner_of(mover: Mover) -> Option<Box<dyn Planner>> {
    match mover {
        Mover::Nobody => None,
        Mover::Consolidate => Some(Box::new(Consolidate::default())),
        Mover::Defragment => Some(Box::new(Defragment { wanted: 2 })),
        Mover::Relieve => Some(Box::new(Relieve { above: 0.7 })),
    }
}

impl Run {
    fn scheduler(&self, cluster: &Cluster) -> Box<dyn Scheduler> {
        let shapes: Vec<(Resources, f64)> =
            self.rows.iter().take(3).map(|row| (trace_row(row, 0).resources(), 1.0)).collect();
        match self.policy {
            Policy::Named(name) => {
                Box::new(registry(cluster, &shapes).unwrap().policy(name).unwrap())
            }
            Policy::Few(k) => Box::new(PowerOfK::new(k, FilterScheduler::best_fit()).unwrap()),
        }
    }

    /// The log, where one is wanted, and the report.
    fn go(&self, log: Option<&mut EventLog<Vec<u8>>>) -> Result<Report, SimulationError> {
        let cluster = Cluster::new(&self.cluster).unwrap();
        let many = self.scenario.schedulers.map_or(1, |several| several.count);
        let schedulers: Vec<_> = (0..many).map(|_| self.scheduler(&cluster)).collect();
        let mut planner = planner_of(self.mover);
        let seed = Seed::new(self.seed);
        let mut simulation =
            Simulation::new(cluster, &*schedulers[0], self.scenario.clone(), seed)?
                .with_schedulers(schedulers[1..].iter().map(|scheduler| &**scheduler));
        if let Some(given) = &self.courses {
            let mut courses = Courses::new(given.step_s).unwrap();
            given.courses.iter().for_each(|(vm, course)| courses.add(*vm, course.clone()).unwrap());
            let follow = if given.own { Follow::Own } else { Follow::Drawn };
            simulation = simulation.with_courses(Arc::new(courses), follow);
        }
        if let Some(planner) = &mut planner {
            simulation = simulation.with_planner(&mut **planner);
        }
        if let Some(log) = log {
            simulation = simulation.with_watcher(log);
        }
        simulation.run(trace(&self.rows))
    }

    /// The report of a simulation that nobody watches.
    pub(super) fn unwatched(&self) -> Report {
        self.go(None).unwrap()
    }

    /// The log and the report.
    pub(super) fn watched(&self) -> (String, Report) {
        let mut log = EventLog::new(Vec::new());
        let report = self.go(Some(&mut log)).unwrap();
        (String::from_utf8(log.finish().unwrap()).unwrap(), report)
    }

    /// The same, after the second account agreed with both.
    pub(super) fn checked(&self) -> (String, Report) {
        let (log, report) = self.watched();
        if let Err(fault) = self.verdict(&log, &report) {
            let lines: Vec<&str> = log.lines().collect();
            panic!("{fault}\n{self:#?}\n{}", lines[..lines.len().min(400)].join("\n"));
        }
        (log, report)
    }

    fn verdict(&self, log: &str, report: &Report) -> Result<(), String> {
        let json = |value: Result<serde_json::Value, _>| {
            value.map_err(|e: serde_json::Error| e.to_string())
        };
        let cluster = json(serde_json::to_value(&self.cluster))?;
        let scenario = json(serde_json::to_value(&self.scenario))?;
        let report = json(serde_json::to_value(report))?;
        checker::check(&cluster, &scenario, &self.rows, self.courses.as_ref(), log, &report)
    }
}
