use super::super::xml::Element;
use super::*;

/// The library's own driver for tests, which needs no daemon.
const URI: &str = "test:///default";

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// A domain that executes. All connections of a process have the same ones, so that each test
/// has one of its own.
async fn domain(library: &Library, number: u8) -> DomainId {
    let uuid = InstanceId::from_u128(u128::from_be_bytes([number; 16]));
    let xml = Element::new("domain")
        .attr("type", "test")
        .with(Element::leaf("name", format!("library-{number}")))
        .with(Element::leaf("uuid", uuid))
        .with(Element::leaf("memory", 1024))
        .with(Element::new("os").with(Element::leaf("type", "hvm")));
    library.define(&xml.write().unwrap()).await.unwrap();
    library.start([number; 16]).await.unwrap();
    [number; 16]
}

#[test]
fn no_handle_is_left_of_a_thousand_calls() {
    run(async {
        let library = Library::new(URI);
        let (domain, nobody) = (domain(&library, 1).await, [7; 16]);
        for _ in 0..250 {
            assert_eq!(library.state(domain).await.unwrap(), Some(DomainState::Running));
            assert_eq!(library.state(nobody).await.unwrap(), None);
            let named = (domain, "library-1".to_owned());
            assert!(library.domains().await.unwrap().contains(&named));
            library.description(domain, Which::Kept).await.unwrap();
            assert!(library.define("<domain/>").await.is_err());
        }
        // A handle that is left holds its connection.
        let mut link = Arc::into_inner(library.shared.with(Option::take).unwrap()).unwrap();
        let left = link.0.close();
        // It is closed.
        std::mem::forget(link);
        assert_eq!(left, Ok(0));
    });
}

#[test]
fn what_cannot_be_said_or_reached_is_refused_and_not_a_panic() {
    run(async {
        let library = Library::new(URI);
        let refused = library.define("<domain>\0</domain>").await;
        assert!(matches!(refused, Err(LibvirtError::Message { .. })), "{refused:?}");
        for uri in ["test:///de\0fault", "nowhere:///", "test:///no/such/file", "%%"] {
            assert!(Library::new(uri).version().await.is_err(), "{uri:?}");
        }
        let nobody = Library::new("test+unix:///default?socket=/nonexistent").version().await;
        assert!(matches!(nobody, Err(LibvirtError::Unreachable { .. })), "{nobody:?}");
    });
}

#[test]
fn what_was_done_over_it_is_told_and_what_was_asked_is_not() {
    run(async {
        let library = Library::new(URI);
        let mut changes = library.changes();
        let domain = domain(&library, 2).await;
        assert_eq!(changes.try_recv(), Ok(Change::Anything), "a new connection");
        for _what in ["defined", "started"] {
            assert_eq!(changes.try_recv(), Ok(Change::Domain(domain)));
        }
        library.suspend(domain).await.unwrap();
        assert_eq!(changes.try_recv(), Ok(Change::Domain(domain)));
        library.resume(domain).await.unwrap();
        assert_eq!(changes.try_recv(), Ok(Change::Domain(domain)));
        library.state(domain).await.unwrap();
        assert!(changes.try_recv().is_err());
        // Whoever waits asks again and again, and must not be woken by that.
        library.ask_to_shut_down(domain).await.unwrap();
        assert!(changes.try_recv().is_err());
    });
}
