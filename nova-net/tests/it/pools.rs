//! Pools under any sequence of taking, giving back, and waiting.

use std::collections::{BTreeMap, BTreeSet};

use nova_core::clock::Timestamp;
use nova_net::pool::{Pick, Pool, Use};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    Take,
    GiveBack(prop::sample::Index),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => Just(Act::Take),
        2 => any::<prop::sample::Index>().prop_map(Act::GiveBack),
        1 => (0..40_u64).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 0..200)
}

const QUARANTINE: u64 = 60;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_number_has_two_owners_or_comes_back_before_its_time(acts in acts(), size in 1..12_u32) {
        let mut pool = Pool::new(10, 9 + size);
        let mut now = 0;
        let mut owned = BTreeSet::new();
        let mut given_back: BTreeMap<u32, u64> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Wait(time) => now += time,
                Act::GiveBack(which) => {
                    let all: Vec<u32> = owned.iter().copied().collect();
                    if !all.is_empty() {
                        let number = all[which.index(all.len())];
                        owned.remove(&number);
                        given_back.insert(number, now);
                        pool.set(number, Use::Resting(Timestamp(now + QUARANTINE)));
                    }
                }
                Act::Take => match pool.next(Timestamp(now)) {
                    Ok(pick) => {
                        let number = pick.number();
                        prop_assert!((10..10 + size).contains(&number));
                        prop_assert!(owned.insert(number), "{number} has two owners");
                        let at = given_back.remove(&number);
                        match pick {
                            // Never used, and nothing lower was left.
                            Pick::Fresh(_) => {
                                prop_assert_eq!(at, None);
                                let lower = |n| owned.contains(&n) || given_back.contains_key(&n);
                                prop_assert!((10..number).all(lower));
                            }
                            // Rested, and nothing rested longer.
                            Pick::Rested(_) => {
                                let at = at.unwrap();
                                prop_assert!(at + QUARANTINE <= now);
                                prop_assert!(given_back.values().all(|other| *other >= at));
                            }
                        }
                        pool.set(number, Use::Held);
                    }
                    Err(exhausted) => {
                        prop_assert_eq!(owned.len() + given_back.len(), size as usize);
                        prop_assert!(given_back.values().all(|at| at + QUARANTINE > now));
                        let first = given_back.values().min().map(|at| Timestamp(at + QUARANTINE));
                        prop_assert_eq!(exhausted.until, first);
                    }
                },
            }
            let counts = pool.counts(Timestamp(now));
            prop_assert_eq!(counts.free + counts.resting + counts.held, pool.size());
            prop_assert_eq!(counts.held, owned.len() as u64);
            let resting = given_back.values().filter(|at| **at + QUARANTINE > now).count();
            prop_assert_eq!(counts.resting, resting as u64);
        }
    }

    #[test]
    fn a_pool_says_the_same_whatever_the_order_it_learnt_in(
        uses in prop::collection::btree_map(0..20_u32, prop::option::of(0..9_u64), 0..20),
        order in any::<u64>(),
    ) {
        let usage = |until: &Option<u64>| until.map_or(Use::Held, |at| Use::Resting(Timestamp(at)));
        let mut ascending = Pool::new(0, 19);
        uses.iter().for_each(|(number, until)| ascending.set(*number, usage(until)));
        let mut shuffled: Vec<_> = uses.iter().collect();
        nova_core::seed::Seed::new(order).chance().shuffle(&mut shuffled);
        let mut other = Pool::new(0, 19);
        for (number, until) in shuffled {
            other.set(*number, Use::Held);
            other.forget(*number);
            other.set(*number, usage(until));
        }
        prop_assert_eq!(ascending, other);
    }
}
