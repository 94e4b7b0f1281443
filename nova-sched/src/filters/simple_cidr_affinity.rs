//! Hosts near an address.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nova_core::domain::{HostState, Invalid, RequestSpec};

use crate::{Filter, Reason, Runs, Verdict};

/// Passes hosts whose management address lies in the network around the address that the hint
/// `build_near_host_ip` gives. The hint `cidr` says how wide that is, such as `/20`; `/24` when it
/// is not there. Addresses of the other family are never near.
#[derive(Debug, Default, Clone, Copy)]
pub struct SimpleCidrAffinity;

const NEAR: &str = "build_near_host_ip";
const WIDTH: &str = "cidr";

impl Filter for SimpleCidrAffinity {
    fn name(&self) -> &str {
        "simple-cidr-affinity"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let Some(near) = hint(request, NEAR) else { return Verdict::Pass };
        let width = hint(request, WIDTH).unwrap_or("/24");
        match (host.report.address, network(near, width)) {
            (_, None) => Verdict::Error(Reason("the hint is not an address with a width")),
            (None, _) => Verdict::Error(Reason("does not tell its address")),
            (Some(address), Some(network)) => {
                Verdict::pass_if(network.contains(address), Reason("not near the address"))
            }
        }
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        hint(request, NEAR).is_some()
    }

    fn hint(&self, name: &str, words: &[String]) -> Option<Result<(), Invalid>> {
        let word = match words {
            [word] => Some(word.as_str()),
            _ => None,
        };
        let (good, allowed) = match name {
            NEAR => (word.is_some_and(|w| w.parse::<IpAddr>().is_ok()), "one address"),
            WIDTH => (word.is_some_and(|w| network("::", w).is_some()), "one width, such as /24"),
            _ => return None,
        };
        let field = if name == NEAR { "hints.build_near_host_ip" } else { "hints.cidr" };
        Some(if good { Ok(()) } else { Err(Invalid::new(field, words.join(" "), allowed)) })
    }
}

fn hint<'a>(request: &'a RequestSpec, name: &str) -> Option<&'a str> {
    request.hints.custom.get(name)?.first().map(String::as_str)
}

fn network(near: &str, width: &str) -> Option<IpNetwork> {
    IpNetwork::new(near.parse().ok()?, width.strip_prefix('/')?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::HostReport;

    use super::*;
    use crate::filters::check as check_filter;

    fn check(address: Option<&str>, hints: &[(&str, &str)], expected: Result<(), &str>) {
        check_filter(
            SimpleCidrAffinity,
            |host| {
                let address = address.map(|address| address.parse().unwrap());
                host.report = Arc::new(HostReport { address, ..HostReport::default() });
            },
            |request| {
                let hints =
                    hints.iter().map(|(name, word)| (name.to_string(), vec![word.to_string()]));
                request.hints.custom = hints.collect();
            },
            expected,
        );
    }

    #[test]
    fn a_host_is_near_when_it_is_in_the_network_around_the_address() {
        const FAR: Result<(), &str> = Err("not near the address");
        check(Some("10.0.1.7"), &[], Ok(()));
        check(Some("10.0.1.7"), &[(NEAR, "10.0.1.200")], Ok(()));
        check(Some("10.0.2.7"), &[(NEAR, "10.0.1.200")], FAR);
        check(Some("10.0.2.7"), &[(NEAR, "10.0.1.200"), (WIDTH, "/16")], Ok(()));
        check(Some("fd00::1"), &[(NEAR, "10.0.1.200"), (WIDTH, "/0")], FAR);
        check(Some("fd00::1"), &[(NEAR, "fd00::2"), (WIDTH, "/64")], Ok(()));
    }

    #[test]
    fn what_cannot_be_compared_is_refused_by_name() {
        check(None, &[(NEAR, "10.0.1.200")], Err("does not tell its address"));
        check(Some("10.0.1.7"), &[(NEAR, "here")], Err("the hint is not an address with a width"));
        let hint = |name: &str, word: &str| SimpleCidrAffinity.hint(name, &[word.to_owned()]);
        assert_eq!(hint(NEAR, "10.0.1.200"), Some(Ok(())));
        assert_eq!(hint(WIDTH, "/24"), Some(Ok(())));
        assert_eq!(hint("colour", "red"), None);
        for (name, word) in [(NEAR, "here"), (WIDTH, "24"), (WIDTH, "/200")] {
            assert!(matches!(hint(name, word), Some(Err(_))), "{name} {word}");
        }
    }
}
