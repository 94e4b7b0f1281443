//! The hosts that a request names.

use nova_core::domain::{HostName, HostState, RequestSpec};

use super::attributes::node;
use crate::{Filter, Reason, Runs, Verdict};

/// Passes the hosts that the request asks for: its destination, where one is given; none that it
/// ignores; where hosts or hypervisors are forced only those.
///
/// Every policy has it. A request that forces hosts is asked no filter besides, except that no
/// host that is down or full is ever chosen: under [Nova's rules](crate::Rules::Nova) even those
/// are. Names of ignored and forced hosts are the same in upper and lower case, those of
/// destinations and hypervisors are not, as in Nova.
#[derive(Debug, Default, Clone, Copy)]
pub struct RequestedHosts;

/// Whether `request` leaves no choice but hosts that it names.
pub(crate) fn forces(request: &RequestSpec) -> bool {
    !request.force_hosts.is_empty() || !request.force_nodes.is_empty()
}

impl Filter for RequestedHosts {
    fn name(&self) -> &str {
        "requested-hosts"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let node = node(host);
        let named = |names: &[HostName]| {
            names.iter().any(|name| name.as_str().eq_ignore_ascii_case(host.name.as_str()))
        };
        if let Some(destination) = &request.destination
            && let Some(wanted) = &destination.host
            && (*wanted != host.name || destination.node.as_ref().is_some_and(|n| n != node))
        {
            Verdict::Reject(Reason("not the destination"))
        } else if named(&request.ignore_hosts) {
            Verdict::Reject(Reason("to be ignored"))
        } else {
            let (hosts, nodes) = (&request.force_hosts, &request.force_nodes);
            let passes = (hosts.is_empty() || named(hosts))
                && (nodes.is_empty() || nodes.iter().any(|wanted| wanted == node));
            Verdict::pass_if(passes, Reason("not among the forced hosts"))
        }
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn on_rebuild(&self) -> bool {
        true
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        let destination = request.destination.as_ref();
        destination.is_some_and(|destination| destination.host.is_some())
            || !request.ignore_hosts.is_empty()
            || forces(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::{Destination, HostReport};

    use super::*;
    use crate::filters::check;

    fn name(text: &str) -> HostName {
        HostName::new(text).unwrap()
    }

    #[test]
    fn only_the_destination_passes() {
        let to = |host: Option<&str>, node: Option<&str>| {
            let (host, node) = (host.map(name), node.map(str::to_owned));
            move |r: &mut RequestSpec| {
                r.destination = Some(Destination { host, node, ..Destination::default() });
            }
        };
        const OTHER: Result<(), &str> = Err("not the destination");
        let noded = |h: &mut HostState| {
            h.report = Arc::new(HostReport { node: Some("n".to_owned()), ..Default::default() });
        };
        check(RequestedHosts, |_| {}, to(None, None), Ok(()));
        check(RequestedHosts, |_| {}, to(Some("host-1"), None), Ok(()));
        check(RequestedHosts, |_| {}, to(Some("host-1"), Some("host-1")), Ok(()));
        check(RequestedHosts, noded, to(Some("host-1"), Some("n")), Ok(()));
        check(RequestedHosts, noded, to(Some("host-1"), Some("host-1")), OTHER);
        check(RequestedHosts, |_| {}, to(Some("host-2"), None), OTHER);
    }

    #[test]
    fn ignored_hosts_do_not_pass() {
        let ignore = |text| move |r: &mut RequestSpec| r.ignore_hosts = vec![name(text)];
        check(RequestedHosts, |_| {}, ignore("HOST-1"), Err("to be ignored"));
        check(RequestedHosts, |_| {}, ignore("host-2"), Ok(()));
    }

    #[test]
    fn only_forced_hosts_and_hypervisors_pass() {
        const NOT: Result<(), &str> = Err("not among the forced hosts");
        let hosts = |text| move |r: &mut RequestSpec| r.force_hosts = vec![name(text)];
        let nodes =
            |text: &'static str| move |r: &mut RequestSpec| r.force_nodes = vec![text.to_owned()];
        check(RequestedHosts, |_| {}, hosts("HOST-1"), Ok(()));
        check(RequestedHosts, |_| {}, hosts("host-2"), NOT);
        check(RequestedHosts, |_| {}, nodes("host-1"), Ok(()));
        check(RequestedHosts, |_| {}, nodes("HOST-1"), NOT);
    }
}
