//! Trees that grow and shrink.

use std::collections::BTreeMap;

use nova_core::seed::Seed;

use super::*;

/// Every node bounds what is below it, sorted, and every host is where it is said to be.
fn check(forest: &Forest, root: u32, hosts: &BTreeMap<u32, (u64, [f32; 2])>) {
    let mut seen = BTreeMap::new();
    let mut open = vec![root];
    while let Some(node) = open.pop() {
        let known = &forest.nodes[node as usize];
        for at in 0..known.len {
            let (link, code, rank) = (known.links[at], known.codes[at], known.ranks[at]);
            let lanes = [forest.lane(node, 0)[at], forest.lane(node, 1)[at]];
            if known.is_leaf {
                assert_eq!(forest.leaf_of[link as usize], node);
                assert_eq!(rank, u64::from(link));
                seen.insert(link, (code, lanes));
                continue;
            }
            let below = &forest.nodes[link as usize];
            assert_eq!(below.parent, node);
            assert_eq!(Some(rank), below.ranks[..below.len].iter().copied().min());
            assert!(below.codes[..below.len].iter().all(|below| *below >= code));
            for (lane, most) in lanes.iter().enumerate() {
                let all = forest.lane(link, lane)[..below.len].iter().copied();
                assert_eq!(*most, all.fold(f32::NEG_INFINITY, f32::max));
            }
            open.push(link);
        }
    }
    assert_eq!(seen, *hosts);
}

#[test]
fn nodes_bound_what_is_below_them_whatever_comes_and_goes() {
    for seed in 0..6 {
        let mut chance = Seed::new(seed).chance();
        let (mut forest, mut hosts) = (Forest::new(2), BTreeMap::new());
        let mut root = forest.plant();
        // It grows, then shrinks to nothing.
        for step in 0..1200 {
            let slot = chance.index(300) as u32;
            let code = chance.below(if seed % 2 == 0 { 1000 } else { 3 });
            let lanes = [chance.below(100) as f32, chance.below(100) as f32];
            let entry = Entry { slot: Slot(slot), rank: slot.into(), code, lanes: &lanes };
            let known = hosts.get(&slot).map(|(code, _)| *code);
            let shrinks = step > 600 && chance.index(4) > 0;
            match known {
                Some(_) if shrinks || chance.index(3) == 0 => {
                    forest.remove(&mut root, Slot(slot));
                    hosts.remove(&slot);
                }
                Some(code) => {
                    forest.update(Entry { code, ..entry });
                    hosts.insert(slot, (code, lanes));
                }
                None if shrinks => {}
                None => {
                    forest.insert(&mut root, entry);
                    hosts.insert(slot, (code, lanes));
                }
            }
            check(&forest, root, &hosts);
        }
        for slot in std::mem::take(&mut hosts).into_keys() {
            forest.remove(&mut root, Slot(slot));
        }
        check(&forest, root, &hosts);
        assert_eq!(forest.any(root), None);
    }
}

#[test]
fn rounding_never_crosses_the_number() {
    for number in [0.0, 0.1, -0.1, 1e-50, 16_777_217.0, 1e300, -1e300, f64::MIN_POSITIVE] {
        assert!(f64::from(up(number)) >= number && f64::from(down(number)) <= number);
    }
    assert_eq!((up(64.0), down(64.0)), (64.0, 64.0));
}
