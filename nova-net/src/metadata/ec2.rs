//! EC2's form: a tree of texts, whose folders are lists of what is below them.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::{Answer, Metadata};

/// The versions that Nova tells, all of which say the same here.
const VERSIONS: [&str; 10] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
];

pub(super) fn answer(server: &Metadata, words: &[&str]) -> Option<Answer> {
    match words {
        [] => Some(Answer::text(VERSIONS.join("\n"))),
        [version, ..] if !VERSIONS.contains(version) => None,
        [_] => {
            let user_data = server.user_data.iter().map(|_| "user-data");
            let all: Vec<&str> = std::iter::once("meta-data/").chain(user_data).collect();
            Some(Answer::text(all.join("\n")))
        }
        [_, "user-data"] => server.user_data.as_ref().map(Answer::user_data),
        [_, "meta-data", "public-keys"] => {
            let (name, _) = server.key.as_ref()?;
            Some(Answer::text(format!("0={name}")))
        }
        [_, "meta-data", rest @ ..] => below(&tree(server), &rest.join("/")),
        _ => None,
    }
}

/// The text at a path, or the list of what is below it.
fn below(tree: &BTreeMap<&'static str, String>, path: &str) -> Option<Answer> {
    if let Some(text) = tree.get(path) {
        return Some(Answer::text(text));
    }
    let children: BTreeSet<String> = tree
        .keys()
        .filter_map(|key| match path {
            "" => Some(*key),
            path => key.strip_prefix(path)?.strip_prefix('/'),
        })
        .map(|rest| match rest.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => rest.to_owned(),
        })
        .collect();
    let lines: Vec<String> = children.into_iter().collect();
    (!lines.is_empty()).then(|| Answer::text(lines.join("\n")))
}

fn tree(server: &Metadata) -> BTreeMap<&'static str, String> {
    let host_name = server.host_name();
    let groups: Vec<String> = server.security_groups.iter().map(ToString::to_string).collect();
    let mut tree = BTreeMap::from([
        ("ami-id", server.image.to_string()),
        ("ami-launch-index", "0".to_owned()),
        ("hostname", host_name.clone()),
        ("instance-action", "none".to_owned()),
        ("instance-id", server.id.to_string()),
        ("instance-type", server.flavor.to_string()),
        ("local-hostname", host_name.clone()),
        ("placement/availability-zone", server.zone.to_string()),
        ("public-hostname", host_name),
        ("reservation-id", server.id.to_string()),
        ("security-groups", groups.join("\n")),
    ]);
    if let Some(first) = server.interfaces.first() {
        tree.insert("local-ipv4", first.address.to_string());
        tree.insert("mac", first.mac.to_string());
    }
    if let Some(floating) = server.interfaces.iter().find_map(|interface| interface.floating) {
        tree.insert("public-ipv4", floating.to_string());
    }
    if let Some((_, key)) = &server.key {
        tree.insert("public-keys/0/openssh-key", key.as_str().to_owned());
    }
    tree
}

#[cfg(test)]
mod tests {
    use crate::metadata::tests::{check, server};

    #[test]
    fn ec2s_tree_is_told_path_by_path() {
        let server = server();
        check(&server, "/", Some(&super::VERSIONS.join("\n")));
        check(&server, "/latest", Some("meta-data/\nuser-data"));
        check(
            &server,
            "/2009-04-04/meta-data/",
            Some(
                "ami-id\nami-launch-index\nhostname\ninstance-action\ninstance-id\n\
                 instance-type\nlocal-hostname\nlocal-ipv4\nmac\nplacement/\npublic-hostname\n\
                 public-ipv4\npublic-keys/\nreservation-id\nsecurity-groups",
            ),
        );
        for (path, text) in [
            ("local-ipv4", "10.0.0.2"),
            ("public-ipv4", "203.0.113.9"),
            ("hostname", "web.novalocal"),
            ("instance-type", "small"),
            ("placement", "availability-zone"),
            ("placement/availability-zone/", "nova"),
            ("public-keys", "0=laptop"),
            ("public-keys/0/", "openssh-key"),
            ("public-keys//0/openssh-key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me"),
            ("security-groups", "default\nweb"),
        ] {
            check(&server, &format!("/latest/meta-data/{path}"), Some(text));
        }
    }

    #[test]
    fn what_is_not_there_has_no_answer() {
        let bare = crate::metadata::Metadata {
            user_data: None,
            key: None,
            interfaces: Vec::new(),
            ..server()
        };
        for path in [
            "/latest/user-data",
            "/latest/meta-data/public-keys",
            "/latest/meta-data/public-keys/0/openssh-key",
            "/latest/meta-data/local-ipv4",
            "/latest/meta-data/hostname/x",
            "/latest/meta-data/..",
            "/2020-01-01/meta-data",
            "/latest/dynamic",
            "/etc/passwd",
        ] {
            check(&bare, path, None);
        }
        check(&bare, "/latest/", Some("meta-data/"));
    }
}
