//! The thread of one host, which sees and changes its network.

use std::cell::LazyCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, mpsc as started};

use ipnetwork::IpNetwork;
use nova_core::clock::Meter;
use nova_core::domain::InterfaceName;
use nova_core::store::Revision;
use rtnetlink::Handle;
use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::{mpsc, oneshot};

use super::announce::{AnnounceError, announce};
use super::dnsmasq::{DhcpError, Process, Servers, is_plain, lease};
use super::files::{Memo, Memory, with_all};
use super::firewall::{Firewall, FirewallError, filters};
use super::leases::LeasedAddress;
use super::links::{self, LinkError, Seen};
use super::metadata::{Ports, Service};
use super::ruleset::Ruleset;
use super::steps::{groups, is_router_of_ipv6};
use super::switches::{IPV4, IPV6, forwards, set_forwards, shows_bridges};
use super::{HostPlace, LinuxError};
use crate::backend::BackendError;
use crate::host::{Bridge, BridgeOrigin, HostNet, Part, PartId};
use crate::metadata::MetadataSource;
use crate::plan::{Action, Plan, Step};

/// What a station is asked.
#[derive(Debug)]
pub(super) enum Job {
    Observe(oneshot::Sender<Result<HostNet, BackendError>>),
    Leased(oneshot::Sender<Result<Vec<LeasedAddress>, BackendError>>),
    Apply { generation: Revision, plan: Plan, answer: oneshot::Sender<Result<(), BackendError>> },
}

/// Who serves one host.
pub(super) struct Station {
    handle: Handle,
    memory: Memory,
    servers: Servers,
    rules: Ruleset,
    /// Who answers guests that ask about themselves, while it runs, and for whom.
    service: Option<Service>,
    ports: Ports,
    source: Option<Arc<dyn MetadataSource>>,
    /// What was seen last, until something is done: a plan that follows was made for it. Should
    /// the kernel have changed meanwhile, the batch fails, and the next look is a fresh one.
    seen: Option<Sight>,
}

/// What is there at one moment.
struct Sight {
    /// None when our tables are not there as they should be.
    firewall: Option<Arc<Firewall>>,
    net: HostNet,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Links(#[from] LinkError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error(transparent)]
    Dhcp(#[from] DhcpError),
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    #[error("cannot serve metadata")]
    Metadata(#[source] io::Error),
    #[error("nobody was named who knows the metadata of guests")]
    NoSource,
    #[error("cannot keep what the host has")]
    Memory(#[source] io::Error),
    #[error("cannot let packets be forwarded")]
    Forward(#[source] io::Error),
    #[error("the kernel does not show what crosses a bridge (its module is br_netfilter)")]
    Unseen(#[source] io::Error),
}

impl Station {
    /// Starts the thread, and waits until it serves.
    pub(super) fn begin(
        place: &HostPlace,
        source: Option<Arc<dyn MetadataSource>>,
        meter: Option<Meter>,
    ) -> Result<mpsc::UnboundedSender<Job>, LinuxError> {
        let folder = place.folder.clone();
        if !is_plain(&folder) {
            return Err(LinuxError::Name { folder });
        }
        let made = std::fs::create_dir_all(&folder).and_then(|()| folder.canonicalize());
        let folder = made.map_err(|source| LinuxError::Folder { folder, source })?;
        let (jobs, asked) = mpsc::unbounded_channel();
        let (begun, has_begun) = started::channel();
        let place = place.clone();
        let serve = move || match Self::prepare(&place) {
            Ok(runtime) => runtime.block_on(async move {
                match Self::connect(&folder, source, meter) {
                    Ok(station) => {
                        let _ = begun.send(Ok(()));
                        station.serve(asked).await;
                    }
                    Err(error) => drop(begun.send(Err(LinuxError::Begin(error)))),
                }
            }),
            Err(error) => drop(begun.send(Err(error))),
        };
        let thread = std::thread::Builder::new().name("nova-net".to_owned());
        thread.spawn(serve).map_err(LinuxError::Begin)?;
        match has_begun.recv() {
            Ok(begun) => begun.map(|()| jobs),
            Err(_) => Err(LinuxError::Begin(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Enters the namespace with this thread.
    fn prepare(place: &HostPlace) -> Result<tokio::runtime::Runtime, LinuxError> {
        if let Some(name) = &place.namespace {
            let inside = || -> io::Result<()> {
                let file = File::open(Path::new("/run/netns").join(name))?;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(())
            };
            let namespace = name.clone();
            inside().map_err(|source| LinuxError::Namespace { namespace, source })?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(LinuxError::Begin)
    }

    fn connect(
        folder: &Path,
        source: Option<Arc<dyn MetadataSource>>,
        meter: Option<Meter>,
    ) -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let servers = Servers::new(folder.to_owned(), meter.clone());
        let (memory, rules) = (Memory::new(folder), Ruleset::new(meter)?);
        let (service, ports) = (None, Ports::default());
        Ok(Self { handle, memory, servers, rules, service, ports, source, seen: None })
    }

    async fn serve(mut self, mut asked: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = asked.recv().await {
            // Who asked may have gone.
            match job {
                Job::Observe(answer) => drop(answer.send(self.observe().await)),
                Job::Leased(answer) => {
                    let leased = self.servers.leased();
                    let failed =
                        |source: io::Error| BackendError::Observe { source: source.into() };
                    drop(answer.send(leased.map_err(failed)));
                }
                Job::Apply { generation, plan, answer } => {
                    drop(answer.send(self.apply(generation, &plan).await));
                }
            }
        }
    }

    async fn observe(&mut self) -> Result<HostNet, BackendError> {
        let observed = async {
            let memo = self.memory.read().map_err(Failed::Memory)?;
            self.look(&memo).await
        };
        let sight = observed.await;
        let sight = sight.map_err(|failed| BackendError::Observe { source: failed.into() })?;
        self.know(&sight.net);
        Ok(self.seen.insert(sight).net.clone())
    }

    async fn look(&mut self, memo: &Memo) -> Result<Sight, Failed> {
        let firewall = self.rules.now()?;
        let net = self.see(memo, firewall.as_deref()).await?;
        Ok(Sight { firewall, net })
    }

    /// What is there of what may be there, under this firewall.
    async fn see(&self, memo: &Memo, firewall: Option<&Firewall>) -> Result<HostNet, Failed> {
        let mut net = HostNet::new();
        // What was laid by us and has not changed since need not be looked at.
        let filters = LazyCell::new(|| filters(&memo.parts));
        let serves = |part: &Part, net: &HostNet| {
            firewall.is_some_and(|fw| fw.was_laid_for(part) || fw.serves(part, net, &filters))
        };
        if memo.parts.is_empty() {
            return Ok(net);
        }
        let seen = Seen::now(&self.handle).await?;
        let mut told = BTreeMap::new();
        let mut parts: Vec<&Part> = memo.parts.iter().collect();
        parts.sort_by_cached_key(|part| part.id());
        for part in parts {
            let is_there = match part {
                Part::VlanInterface(part) => seen.has_own(&part.name),
                Part::VxlanInterface(part) => seen.has_own(&part.name),
                Part::Bridge(part) => {
                    if let Some(bridge) = seen.bridge(part) {
                        // What else is recorded of it fits, or the network would not be whole.
                        let _ = net.insert(bridge);
                    }
                    continue;
                }
                Part::BridgeAddress(part) => seen.has_address(&part.bridge, part.address),
                Part::DhcpServer(part) => self.servers.serves(part),
                Part::Lease(part) => {
                    let told =
                        told.entry(part.network).or_insert_with(|| self.servers.told(part.network));
                    told.get(&part.mac.to_string()) == Some(&lease(part))
                }
                Part::GuestPort(port) => {
                    serves(part, &net) && seen.is_plugged(&port.tap, &port.bridge) != Some(false)
                }
                Part::RouterAdvertiser(part) => self.servers.advertises(part),
                Part::Nat(_) | Part::Floating(_) | Part::PortFilter(_) | Part::GuestIpv6(_) => {
                    serves(part, &net)
                }
                Part::MetadataService(part) => {
                    let runs = self.service.as_ref().is_some_and(Service::runs);
                    runs && seen
                        .has_address(&InterfaceName::LOOPBACK, IpNetwork::from(part.address))
                }
                Part::PublicAddress(part) => {
                    seen.has_address(&part.interface, IpNetwork::from(part.address))
                }
            };
            if is_there {
                // What needs something that is gone is as good as gone: it is made again.
                let _ = net.insert(part.clone());
            }
        }
        Ok(net)
    }

    async fn apply(&mut self, generation: Revision, plan: &Plan) -> Result<(), BackendError> {
        let begin = |failed: Failed| BackendError::Step { step: 0, source: failed.into() };
        let mut memo = self.memory.read().map_err(Failed::Memory).map_err(begin)?;
        if generation < memo.accepted {
            return Err(BackendError::Outdated { generation, accepted: memo.accepted });
        }
        let Sight { firewall, mut net } = match self.seen.take() {
            Some(sight) => sight,
            None => self.look(&memo).await.map_err(begin)?,
        };
        self.clear_away(&memo, &net).await.map_err(begin)?;
        let comes = plan.steps().iter().filter(|step| !matches!(step.action, Action::Remove(_)));
        let idle = net.is_empty() && plan.is_empty();
        let before = memo.clone();
        memo.accepted = generation;
        memo.parts = with_all(&net, comes.map(|step| step.action.part().clone()));
        if !idle && memo.forwarded.is_none() {
            memo.forwarded = Some(forwards(IPV4).map_err(Failed::Forward).map_err(begin)?);
        }
        if memo.parts.iter().any(is_router_of_ipv6) {
            if memo.forwarded_v6.is_none() {
                memo.forwarded_v6 = Some(forwards(IPV6).map_err(Failed::Forward).map_err(begin)?);
            }
            set_forwards(IPV6, true).map_err(Failed::Forward).map_err(begin)?;
        }
        if memo != before {
            self.memory.write(&memo).map_err(Failed::Memory).map_err(begin)?;
        }
        if idle {
            return Ok(());
        }
        let mut laid = self.lay(&net, firewall).map_err(begin)?;
        for group in groups(plan.steps()) {
            let mut next = net.clone();
            for step in group {
                step.action.apply(&mut next).map_err(|flaw| BackendError::Refused {
                    step: step.number,
                    source: Box::new(flaw),
                })?;
            }
            let done = self.act(group, &net, &next, &mut laid).await;
            done.map_err(|failed| BackendError::Step {
                step: group[0].number,
                source: failed.into(),
            })?;
            net = next;
            self.know(&net);
        }
        self.finish(memo, &net).map_err(begin)
    }

    /// Notes what is there after a plan; of nothing, nothing is left.
    fn finish(&mut self, before: Memo, net: &HostNet) -> Result<(), Failed> {
        let parts = net.parts().map(|(_, part)| part.clone()).collect();
        let mut memo = Memo { parts, ..before.clone() };
        if net.is_empty() {
            self.rules.clear()?;
            if memo.forwarded.take() == Some(false) {
                set_forwards(IPV4, false).map_err(Failed::Forward)?;
            }
            if memo.forwarded_v6.take() == Some(false) {
                set_forwards(IPV6, false).map_err(Failed::Forward)?;
            }
        }
        if memo == before { Ok(()) } else { self.memory.write(&memo).map_err(Failed::Memory) }
    }

    /// Takes away what is left of parts that are not whole any more: a server whose bridge is
    /// gone, a bridge without its way out. What of it is wanted, the plan makes again.
    async fn clear_away(&mut self, memo: &Memo, net: &HostNet) -> Result<(), Failed> {
        let broken = memo.parts.iter().filter(|part| net.get(&part.id()).is_none());
        let mut broken: Vec<&Part> = broken.collect();
        broken.sort_by_cached_key(|part| Reverse(part.id()));
        for part in broken {
            match self.unmake(part).await {
                // Somebody else has made one of that name since.
                Err(Failed::Links(LinkError::Foreign(_))) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Makes the firewall what `net` asks for, whatever it is, and lets packets be forwarded.
    fn lay(&mut self, net: &HostNet, now: Option<Arc<Firewall>>) -> Result<Arc<Firewall>, Failed> {
        // Without it neighbours would reach each other whatever their filters say.
        shows_bridges().map_err(Failed::Unseen)?;
        let now = match now {
            Some(now) => now,
            None => self.rules.lay()?,
        };
        set_forwards(IPV4, true).map_err(Failed::Forward)?;
        if now.is_of(net) {
            return Ok(now);
        }
        let laid = Arc::new(Firewall::of(net));
        self.rules.change(&now, &laid)?;
        Ok(laid)
    }

    /// Does steps that go together, and lets the firewall, which is `laid`, follow.
    async fn act(
        &mut self,
        group: &[Step],
        net: &HostNet,
        next: &HostNet,
        laid: &mut Arc<Firewall>,
    ) -> Result<(), Failed> {
        let removes = matches!(group[0].action, Action::Remove(_));
        // What is made is there before packets may come to it, and goes after they may not.
        if !removes {
            self.change(group, net, next).await?;
        }
        let wanted = Arc::new(Firewall::of(next));
        self.rules.change(laid, &wanted)?;
        *laid = wanted;
        if removes {
            self.change(group, net, next).await?;
        }
        let touched = group.iter().filter_map(|step| match step.action.part() {
            Part::Lease(lease) => Some(lease.network),
            Part::GuestIpv6(guest) => Some(guest.network),
            _ => None,
        });
        for network in touched.collect::<BTreeSet<_>>() {
            if let Some(Part::DhcpServer(server)) = next.get(&PartId::DhcpServer(network)) {
                self.servers.tell(server, next)?;
            }
        }
        for step in group {
            if let Action::Add(Part::Floating(floating)) = &step.action
                && let Some(Part::PublicAddress(public)) =
                    next.get(&PartId::PublicAddress(floating.address))
            {
                announce(&public.interface, public.address)?;
            }
        }
        let ports = group.iter().filter_map(|step| match &step.action {
            Action::Add(Part::GuestPort(port)) => Some((&port.tap, &port.bridge)),
            _ => None,
        });
        let ports: Vec<_> = ports.collect();
        if !ports.is_empty() {
            links::plug_guests(&self.handle, ports).await?;
        }
        Ok(())
    }

    /// What a single step does to links, addresses and servers.
    async fn change(
        &mut self,
        group: &[Step],
        net: &HostNet,
        next: &HostNet,
    ) -> Result<(), Failed> {
        let [step] = group else { return Ok(()) };
        let handle = &self.handle;
        match &step.action {
            Action::Add(part) | Action::Change(part) => match part {
                Part::VlanInterface(vlan) => links::add_vlan(handle, vlan).await?,
                Part::VxlanInterface(vxlan) => links::add_vxlan(handle, vxlan).await?,
                Part::Bridge(bridge) => {
                    if let Some(Part::Bridge(Bridge { uplink: Some(old), .. })) =
                        net.get(&part.id()).filter(|old| *old != part)
                    {
                        links::unplug(handle, old.name(), &bridge.name).await?;
                    }
                    links::add_bridge(handle, bridge).await?;
                }
                Part::BridgeAddress(part) => {
                    links::add_address(handle, &part.bridge, part.address).await?;
                }
                Part::DhcpServer(server) => self.servers.start(server, next)?,
                Part::RouterAdvertiser(advertiser) => self.servers.advertise(advertiser)?,
                Part::MetadataService(part) => {
                    let address = IpNetwork::from(part.address);
                    links::add_address(handle, &InterfaceName::LOOPBACK, address).await?;
                    self.serve_metadata(part.address)?;
                }
                Part::PublicAddress(part) => {
                    let address = IpNetwork::from(part.address);
                    links::add_address(handle, &part.interface, address).await?;
                }
                Part::Lease(_)
                | Part::Nat(_)
                | Part::PortFilter(_)
                | Part::GuestPort(_)
                | Part::GuestIpv6(_)
                | Part::Floating(_) => {}
            },
            Action::Remove(part) => self.unmake(part).await?,
        }
        Ok(())
    }

    /// Starts to answer guests, unless it does already.
    fn serve_metadata(&mut self, address: IpAddr) -> Result<(), Failed> {
        if self.service.as_ref().is_none_or(|service| !service.runs()) {
            let source = self.source.clone().ok_or(Failed::NoSource)?;
            let service = Service::start(address, Arc::clone(&self.ports), source);
            self.service = Some(service.map_err(Failed::Metadata)?);
        }
        Ok(())
    }

    /// Lets the metadata service know whose ports there are.
    fn know(&self, net: &HostNet) {
        let ports = net.parts().filter_map(|(_, part)| match part {
            Part::GuestPort(port) => Some((port.address, port.mac)),
            _ => None,
        });
        *self.ports.lock().unwrap_or_else(PoisonError::into_inner) = ports.collect();
    }

    /// Takes away a link, an address or a server, if it is there.
    async fn unmake(&mut self, part: &Part) -> Result<(), Failed> {
        let handle = &self.handle;
        match part {
            Part::VlanInterface(vlan) => links::remove(handle, &vlan.name).await?,
            Part::VxlanInterface(vxlan) => links::remove(handle, &vxlan.name).await?,
            Part::Bridge(bridge) => {
                if bridge.origin == BridgeOrigin::Ours {
                    links::remove(handle, &bridge.name).await?;
                }
            }
            Part::BridgeAddress(part) => {
                links::remove_address(handle, &part.bridge, part.address).await?;
            }
            Part::DhcpServer(server) => self.servers.stop(Process::Dhcp(server.network))?,
            Part::RouterAdvertiser(part) => {
                self.servers.stop(Process::Advertiser(part.network))?;
            }
            Part::MetadataService(part) => {
                self.service = None;
                let address = IpNetwork::from(part.address);
                links::remove_address(handle, &InterfaceName::LOOPBACK, address).await?;
            }
            Part::PublicAddress(part) => {
                let address = IpNetwork::from(part.address);
                links::remove_address(handle, &part.interface, address).await?;
            }
            Part::Lease(_)
            | Part::Nat(_)
            | Part::PortFilter(_)
            | Part::GuestPort(_)
            | Part::GuestIpv6(_)
            | Part::Floating(_) => {}
        }
        Ok(())
    }
}
