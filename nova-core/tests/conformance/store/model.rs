//! The store on disk answers as the store in memory does, whatever is asked in whatever order.

use std::sync::Arc;

use nova_core::store::{
    Event, Guard, Key, MemoryStore, Page, Prefix, RedbStore, Revision, Scan, Store, StoreError,
    Txn, Watch, Write,
};
use proptest::prelude::*;

/// Few keys, so that transactions meet; some that only look as if one lay below the other.
const KEYS: [&str; 7] = ["a", "a/x", "a/y", "ab/x", "b/x", "b/y/z", "c"];

/// Where scans and watches look.
const PREFIXES: [&str; 4] = ["", "a", "b", "b/y"];

#[derive(Debug, Clone)]
enum Step {
    /// Transactions that are committed at the same time, in this order.
    Commit(Vec<Sketch>),
    /// A page: prefix, after which key, how many.
    Scan(usize, Option<usize>, usize),
    /// A watch on a prefix that begins some revisions back.
    Watch(usize, u64),
    /// The file is closed and opened again.
    Reopen,
}

/// A transaction before it is known what the present revision is.
#[derive(Debug, Clone)]
struct Sketch {
    /// Key, and how it is guarded: absent, or unchanged since 4 before the present revision, 3
    /// before, and so on.
    guards: Vec<(usize, Option<u64>)>,
    /// Key, and the value or its removal.
    writes: Vec<(usize, Option<u8>)>,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let guards = prop::collection::vec((0..KEYS.len(), prop::option::of(0..8_u64)), 0..3);
    let writes = prop::collection::vec((0..KEYS.len(), prop::option::weighted(0.7, 0..3_u8)), 0..4);
    (guards, writes).prop_map(|(guards, writes)| Sketch { guards, writes })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(sketch(), 1..6).prop_map(Step::Commit),
        3 => (0..PREFIXES.len(), prop::option::of(0..KEYS.len()), 1..4_usize)
            .prop_map(|(prefix, after, limit)| Step::Scan(prefix, after, limit)),
        2 => (0..PREFIXES.len(), 0..4_u64).prop_map(|(prefix, back)| Step::Watch(prefix, back)),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() })]

    #[test]
    fn disk_and_memory_answer_alike(steps in prop::collection::vec(step(), 1..24)) {
        nova_core::conformance::run(async move { Both::new().walk(steps).await });
    }
}

fn key(path: &str) -> Key {
    Key::new(path.split('/'))
}

fn prefix(path: &str) -> Prefix {
    Prefix::new(path.split_terminator('/'))
}

impl Sketch {
    fn txn(&self, present: Revision) -> Txn {
        let mut txn = Txn::new();
        for (at, since) in &self.guards {
            let key = key(KEYS[*at]);
            txn.guard(match since {
                None => Guard::Absent(key),
                Some(since) => {
                    Guard::Unchanged(key, Revision((present.0 + since).saturating_sub(4)))
                }
            });
        }
        for (at, value) in &self.writes {
            let key = key(KEYS[*at]);
            txn.write(match value {
                None => Write::Remove(key),
                Some(value) => Write::Put(key, [*value].as_slice().into()),
            });
        }
        txn
    }
}

/// The two stores, and the watches that are open on both.
struct Both {
    directory: tempfile::TempDir,
    disk: Option<Arc<RedbStore>>,
    memory: MemoryStore,
    /// What the disk remembers begins here.
    opened_at: Revision,
    watches: Vec<(Watch, Watch)>,
}

impl Both {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Some(Arc::new(super::open(directory.path())));
        let memory = MemoryStore::new();
        Self { directory, disk, memory, opened_at: Revision::default(), watches: Vec::new() }
    }

    fn disk(&self) -> &Arc<RedbStore> {
        self.disk.as_ref().unwrap()
    }

    async fn walk(mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Commit(sketches) => self.commit(&sketches).await,
                Step::Scan(at, after, limit) => {
                    let mut scan = Scan::new(prefix(PREFIXES[at])).with_limit(limit);
                    scan.after = after.map(|at| key(KEYS[at]));
                    self.scan(scan).await;
                }
                Step::Watch(at, back) => self.watch(&prefix(PREFIXES[at]), back).await,
                Step::Reopen => self.reopen().await,
            }
        }
        self.reopen().await;
    }

    async fn commit(&mut self, sketches: &[Sketch]) {
        let present = self.present().await;
        let mut running = Vec::new();
        for sketch in sketches {
            // Tasks of this runtime start in the order in which they are spawned, and so do
            // their transactions, while the first of them is on its way to the disk.
            let (disk, txn) = (Arc::clone(self.disk()), sketch.txn(present));
            running.push(tokio::spawn(async move { disk.commit(txn).await }));
        }
        for (sketch, running) in sketches.iter().zip(running) {
            let model = self.memory.commit(sketch.txn(present)).await;
            assert_eq!(verdict(running.await.unwrap()), verdict(model), "{sketch:?}");
        }
        for (disk, memory) in &mut self.watches {
            assert_eq!(events(disk), events(memory));
        }
        for path in KEYS {
            let disk = self.disk().get(&key(path)).await.unwrap();
            assert_eq!(disk, self.memory.get(&key(path)).await.unwrap());
        }
    }

    async fn scan(&self, scan: Scan) -> Page {
        let disk = self.disk().scan(scan.clone()).await.unwrap();
        assert_eq!(disk, self.memory.scan(scan).await.unwrap());
        disk
    }

    async fn present(&self) -> Revision {
        self.scan(Scan::new(Prefix::all())).await.revision
    }

    async fn watch(&mut self, prefix: &Prefix, back: u64) {
        let after = Revision(self.present().await.0.saturating_sub(back)).max(self.opened_at);
        let disk = self.disk().watch(prefix, after).await.unwrap();
        self.watches.push((disk, self.memory.watch(prefix, after).await.unwrap()));
    }

    async fn reopen(&mut self) {
        // The last reference: dropping it closes the file.
        drop(Arc::into_inner(self.disk.take().unwrap()).unwrap());
        for (mut disk, mut memory) in self.watches.drain(..) {
            assert_eq!(events(&mut disk), events(&mut memory));
            assert_eq!(disk.next().await, None);
        }
        self.disk = Some(Arc::new(super::open(self.directory.path())));
        self.opened_at = self.present().await;
    }
}

fn verdict(result: Result<Revision, StoreError>) -> Result<Revision, String> {
    result.map_err(|error| error.to_string())
}

fn events(watch: &mut Watch) -> Vec<Event> {
    std::iter::from_fn(|| watch.try_next()).collect()
}
