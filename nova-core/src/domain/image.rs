//! Images and key pairs: what a server starts from and who may log in.

use std::collections::BTreeMap;

use crate::domain::{
    GiB, ImageId, InstanceId, Invalid, KeyPairName, Label, MiB, ProjectId, TraitName,
};

/// The format of an image's bytes. It is always stated, never guessed from the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageFormat {
    /// A plain disk.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
    /// A tar archive of a root file system, for containers.
    RootfsTar,
    /// VMware's, in one file. Hosts convert it, as all that follow.
    Vmdk,
    /// Microsoft's of Virtual PC.
    Vhd,
    /// Microsoft's of Hyper-V.
    Vhdx,
    /// VirtualBox's.
    Vdi,
}

impl ImageFormat {
    /// The format that hosts keep an image of this one in, and in which an image is taken of a
    /// server that came from it: its own where hypervisors start from that, QEMU's otherwise.
    pub const fn on_hosts(self) -> Self {
        match self {
            Self::Raw | Self::Qcow2 | Self::RootfsTar => self,
            Self::Vmdk | Self::Vhd | Self::Vhdx | Self::Vdi => Self::Qcow2,
        }
    }
}

/// How much an image holds and what it hashes to, as the image store measured it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageContent {
    /// Bytes.
    pub size_bytes: u64,
    /// SHA-256 of the bytes, in lower-case hex.
    pub sha256: String,
}

impl ImageContent {
    /// What an image holds of which nothing was stored yet: no byte.
    pub fn none() -> Self {
        const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        Self { size_bytes: 0, sha256: EMPTY.to_owned() }
    }
}

/// Where an image is in its life.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageState {
    /// Its bytes are being taken from a server's disk; it cannot be used yet.
    Saving,
    /// It may be used.
    #[default]
    Active,
    /// It is the disk of a server that is shelved: only that one starts from it.
    Shelved,
    /// It is being deleted; nothing new may use it.
    Deleting,
    /// Nobody needs it any more; a conductor removes it.
    Discarded,
}

impl std::fmt::Display for ImageState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Saving => "saving",
            Self::Active => "active",
            Self::Shelved => "shelved",
            Self::Deleting => "deleting",
            Self::Discarded => "discarded",
        })
    }
}

/// What is known of an image; its bytes are with the [`ImageStore`](crate::port::ImageStore).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// The id.
    pub id: ImageId,
    /// The name; several images may bear the same.
    pub name: Label,
    /// Who may use it: one project, or everybody.
    pub owner: Option<ProjectId>,
    /// The format of the bytes.
    pub format: ImageFormat,
    /// Size and checksum.
    pub content: ImageContent,
    /// The least memory of a flavor that may boot it.
    pub min_memory: MiB,
    /// The least root disk of a flavor that may boot it.
    pub min_disk: GiB,
    /// Properties that filters read, such as `hw_architecture`.
    pub properties: ImageProperties,
    /// Where it is in its life.
    #[serde(default)]
    pub state: ImageState,
    /// The server whose disk it was taken of, which may be gone.
    #[serde(default)]
    pub server: Option<InstanceId>,
}

impl Image {
    /// Whether its bytes are known: what is still being taken from a disk is not whole.
    pub fn is_whole(&self) -> bool {
        self.content != ImageContent::none()
    }
}

/// Properties of an image, such as `hw_architecture = x86_64`.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct ImageProperties(BTreeMap<String, String>);

impl ImageProperties {
    /// Checks and takes `properties`.
    ///
    /// # Errors
    /// [`Invalid`] for a key outside `a-z 0-9 _ . : -` that is not `trait:` and a trait, or longer than 255, a value with control
    /// characters or longer than 255 bytes, or more than 128 keys.
    pub fn new<K: Into<String>, V: Into<String>>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Invalid> {
        let mut checked = BTreeMap::new();
        for (key, value) in properties {
            let (key, value) = (key.into(), value.into());
            let known =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.:-".contains(&b);
            // Traits are written in capitals.
            let names = key.strip_prefix(TraitName::SCOPE).map(TraitName::new);
            let is_trait = names.is_some_and(|name| name.is_ok());
            let good = is_trait || key.bytes().all(known);
            if key.is_empty() || key.len() > 255 || !good {
                let allowed = "1 to 255 of a-z, 0-9 and _.:-, or 'trait:' and a trait";
                return Err(Invalid::new("image property", key, allowed));
            }
            if value.len() > 255 || value.chars().any(char::is_control) {
                let allowed = "at most 255 bytes without control characters";
                return Err(Invalid::new("image property value", value, allowed));
            }
            checked.insert(key, value);
        }
        if checked.len() > 128 {
            return Err(Invalid::new("image properties", checked.len(), "at most 128"));
        }
        Ok(Self(checked))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether `key` says yes, in one of the words that Nova takes for it; no without it.
    ///
    /// # Errors
    /// [`Invalid`] for a value that says neither yes nor no.
    pub fn says(&self, key: &'static str) -> Result<bool, Invalid> {
        let Some(value) = self.get(key) else { return Ok(false) };
        match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
            "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
            _ => Err(Invalid::new(key, value, "1, t, true, on, y, yes, 0, f, false, off, n, no")),
        }
    }

    /// All of them, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl TryFrom<BTreeMap<String, String>> for ImageProperties {
    type Error = Invalid;

    fn try_from(properties: BTreeMap<String, String>) -> Result<Self, Invalid> {
        Self::new(properties)
    }
}

impl From<ImageProperties> for BTreeMap<String, String> {
    fn from(properties: ImageProperties) -> Self {
        properties.0
    }
}

/// A public SSH key that a project may put into its servers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyPair {
    /// Who owns it.
    pub project: ProjectId,
    /// Its name, unique in the project.
    pub name: KeyPairName,
    /// The key.
    pub public_key: PublicKey,
}

/// One line of OpenSSH public key: type, base64, optional comment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(String);

impl PublicKey {
    /// Checks `line`; space around it is dropped.
    ///
    /// # Errors
    /// [`Invalid`] unless it is `TYPE BASE64 [COMMENT]` of a known type on one line of at most
    /// 16 KiB. A private key is refused by the same rule.
    pub fn new(line: impl AsRef<str>) -> Result<Self, Invalid> {
        const ALLOWED: &str = "one line 'TYPE BASE64 [COMMENT]', type ssh-ed25519, ssh-rsa, \
                               ecdsa-sha2-nistp256/384/521 or an sk- variant, at most 16 KiB";
        let line = line.as_ref().trim();
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let data = words.next().unwrap_or_default();
        let known = ["ssh-ed25519", "ssh-rsa"].contains(&kind)
            || kind.starts_with("ecdsa-sha2-nistp")
            || kind.starts_with("sk-ssh-ed25519@")
            || kind.starts_with("sk-ecdsa-sha2-nistp256@");
        let base64 = data.len() >= 16
            && data.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        if known && base64 && line.len() <= 16 << 10 && !line.chars().any(char::is_control) {
            Ok(Self(line.to_owned()))
        } else {
            Err(Invalid::new("public key", line, ALLOWED))
        }
    }

    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Invalid;

    fn try_from(line: String) -> Result<Self, Invalid> {
        Self::new(line)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_one_line_of_a_known_type() {
        let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@there";
        assert!(PublicKey::new(good).is_ok());
        for bad in ["", "ssh-ed25519", "ssh-dss AAAAC3NzaC1lZDI1NTE5", &format!("{good}\nx y")] {
            assert!(PublicKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
