//! A way in that has too much to do says so before it has accepted anything.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use nova_core::class::Class;
use nova_core::clock::Clock;
use nova_core::cloud::{
    Admin, ApiError, Cloud, CloudOptions, FlavorSpec, ImageSpec, Overload, Ports, VolumeSpec,
};
use nova_core::domain::{GiB, ImageFormat, MiB, OpState, ProjectId, Vcpus, VolumeSize};
use nova_core::memory::VirtualClock;
use nova_core::seed::Seed;
use nova_core::store::{
    Entry, Key, MemoryStore, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Watch,
};
use tokio::sync::Semaphore;

use crate::world::request;

/// A store that commits only what it is let.
#[derive(Debug)]
struct Gate {
    store: MemoryStore,
    open: Semaphore,
    waiting: AtomicUsize,
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gate")
    }
}

#[async_trait]
impl Store for Gate {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        self.store.scan(scan).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.open.acquire().await.unwrap().forget();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.store.commit(txn).await
    }

    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        self.store.watch(prefix, after).await
    }
}

/// More commits than any test makes.
const ALL: usize = 100_000;

/// Runs a test with a way in over such a store, on which nobody works yet.
fn run(options: CloudOptions, test: impl AsyncFnOnce(Arc<Gate>, Ports, Admin)) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (open, waiting) = (Semaphore::new(ALL), AtomicUsize::new(0));
        let gate = Arc::new(Gate { store: MemoryStore::new(), open, waiting });
        let clock = Arc::new(VirtualClock::new());
        let store = Arc::clone(&gate) as Arc<dyn Store>;
        let ports = Ports::over(store, Arc::clone(&clock) as Arc<dyn Clock>, Seed::new(7));
        let admin = Cloud::handles(ports.clone(), options).await.unwrap();
        clock.drive(test(gate, ports, admin)).await;
    });
}

/// What a write is told that comes when there is too much.
fn overload<T: Debug>(answer: Result<T, ApiError>) -> Overload {
    let error = answer.unwrap_err();
    assert_eq!(error.class(), Class::Retry);
    let ApiError::Busy { overload, retry_after } = error else { panic!("{error:?}") };
    assert!(!retry_after.is_zero());
    overload
}

/// When something was written last.
async fn newest(ports: &Ports) -> Revision {
    ports.store.scan(Scan::new(Prefix::all()).with_limit(1)).await.unwrap().revision
}

fn demo() -> ProjectId {
    "demo".parse().unwrap()
}

fn data() -> VolumeSpec {
    VolumeSpec::new("data".parse().unwrap(), VolumeSize::new(GiB(1)).unwrap())
}

fn flavor(name: &str) -> FlavorSpec {
    FlavorSpec::new(name.parse().unwrap(), Vcpus(1), MiB(512))
}

#[test]
fn no_operation_begins_when_as_many_are_open_as_may_be_and_nothing_is_written_then() {
    let options = CloudOptions::default().with_operations_open_max(3);
    run(options.clone(), async |_, ports, admin| {
        let project = admin.project(demo());
        let mut accepted = Vec::new();
        for id in ["one", "two", "three"] {
            accepted.push(project.create_volume(request(id), &data()).await.unwrap());
        }
        let before = newest(&ports).await;
        let census = admin.census().await.unwrap();
        for _ in 0..2 {
            let refused = project.create_volume(request("four"), &data()).await;
            assert_eq!(overload(refused), Overload::Operations { limit: 3 });
        }
        assert_eq!(newest(&ports).await, before);
        assert_eq!(admin.census().await.unwrap(), census);
        // What was accepted is so still, and what is over at once is not refused.
        let again = project.create_volume(request("three"), &data()).await.unwrap();
        assert_eq!(again, accepted[2]);
        admin.create_flavor(request("tiny"), &flavor("tiny")).await.unwrap();

        // As soon as somebody works there is room again, for the same request.
        let cloud = Cloud::start(ports, options).await.unwrap();
        for accepted in accepted {
            let op = project.wait(accepted.operation).await.unwrap();
            assert_eq!(op.state, OpState::Done, "{op:#?}");
        }
        let fourth = project.create_volume(request("four"), &data()).await.unwrap();
        assert_eq!(project.wait(fourth.operation).await.unwrap().state, OpState::Done);
        cloud.stop().await;
    });
}

#[test]
fn those_who_come_at_the_same_time_begin_no_more_operations_than_may_be_open() {
    let options = CloudOptions::default().with_operations_open_max(3);
    run(options, async |gate, ports, admin| {
        gate.open.forget_permits(ALL);
        let asked: Vec<_> = (0..10)
            .map(|at| {
                let project = admin.project(demo());
                let id = request(&format!("volume-{at}"));
                tokio::spawn(async move { project.create_volume(id, &data()).await })
            })
            .collect();
        // All of them have looked before any of them has begun.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gate.open.add_permits(ALL);
        let mut begun = 0;
        for asked in asked {
            match asked.await.unwrap() {
                Ok(_) => begun += 1,
                refused => assert_eq!(overload(refused), Overload::Operations { limit: 3 }),
            }
        }
        assert!((1..=3).contains(&begun), "{begun} have begun");
        let more = (0..10).map(|at| request(&format!("more-{at}")));
        let project = admin.project(demo());
        for id in more {
            begun += usize::from(project.create_volume(id, &data()).await.is_ok());
        }
        assert_eq!(begun, 3);
        assert_eq!(ports.store.scan(Scan::new(open())).await.unwrap().entries.len(), 3);
    });
}

/// The records of operations that have not ended.
fn open() -> Prefix {
    use nova_core::store::Record as _;
    nova_core::store::record::OpenOperation::all()
}

#[test]
fn a_way_in_takes_no_more_writes_than_it_may_and_nothing_is_written_of_the_others() {
    let options = CloudOptions::default().with_writes_max(3);
    run(options, async |gate, ports, admin| {
        gate.open.forget_permits(ALL);
        let names = ["one", "two", "three"];
        let waiting = names.map(|name| {
            let admin = admin.clone();
            tokio::spawn(async move { admin.create_flavor(request(name), &flavor(name)).await })
        });
        while gate.waiting.load(Ordering::SeqCst) < waiting.len() {
            tokio::task::yield_now().await;
        }
        let refused = admin.create_flavor(request("four"), &flavor("four")).await;
        assert_eq!(overload(refused), Overload::Writes { limit: 3 });
        // Nor are bytes taken for which there would be no record.
        let image = ImageSpec::new("tiny".parse().unwrap(), ImageFormat::Raw);
        let refused = admin.register_image(request("five"), &image, Box::new(&b"bytes"[..])).await;
        assert_eq!(overload(refused), Overload::Writes { limit: 3 });
        assert_eq!(ports.images.list().await.unwrap(), []);
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 3);

        gate.open.add_permits(ALL);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
        admin.create_flavor(request("four"), &flavor("four")).await.unwrap();
        admin.register_image(request("five"), &image, Box::new(&b"bytes"[..])).await.unwrap();
        assert_eq!(admin.census().await.unwrap().records["flavor"], 4);
    });
}
