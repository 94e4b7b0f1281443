//! Every named policy keeps the scheduler's laws, and so does what is wrapped around it.

macro_rules! keeps_the_laws {
    ($($name:ident: $policy:expr;)+) => {$(
        mod $name {
            use super::*;

            nova_core::scheduler_laws!(async { $policy });
        }
    )+};
}

use std::sync::Arc;

use nova_core::memory::VirtualClock;
use nova_sched::explain::DecisionLog;
use nova_sched::{FilterScheduler, Ties};

fn drawn() -> FilterScheduler {
    FilterScheduler::nova().with_ties(Ties::Shuffled).with_subset_size(3).unwrap()
}

keeps_the_laws! {
    nova: FilterScheduler::nova();
    first_fit: FilterScheduler::first_fit();
    best_fit: FilterScheduler::best_fit();
    worst_fit: FilterScheduler::worst_fit();
    without_wishes: FilterScheduler::new("bare");
    with_chance: drawn();
    shared_nova: Arc::new(FilterScheduler::nova());
    shared_first_fit: Arc::new(FilterScheduler::first_fit());
    shared_best_fit: Arc::new(FilterScheduler::best_fit());
    written_down: DecisionLog::new(drawn(), Arc::new(VirtualClock::new()), std::io::sink());
    shared_worst_fit: Arc::new(FilterScheduler::worst_fit());
}
