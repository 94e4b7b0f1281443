//! XML as a tree: what a hypervisor is told is built of elements, never of text.
//!
//! Only elements, attributes and text: descriptions of domains know no more. A document that
//! defines entities of its own is refused.

use nova_core::domain::Invalid;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};

/// The deepest nesting that is read.
const DEPTH_MAX: usize = 64;

/// The most attributes of one element: each is compared with all others.
const ATTRIBUTES_MAX: usize = 64;

/// An element with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    pub(crate) fn new(name: &str) -> Self {
        let (attributes, children) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), attributes, children, text: String::new() }
    }

    /// With one more attribute.
    #[must_use]
    pub(crate) fn attr(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.push((name.to_owned(), value.to_string()));
        self
    }

    /// With one more element in it.
    #[must_use]
    pub(crate) fn with(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// With more elements in it.
    #[must_use]
    pub(crate) fn with_all(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// With this text in it.
    #[must_use]
    pub(crate) fn text(mut self, text: impl ToString) -> Self {
        self.text = text.to_string();
        self
    }

    /// An element that only has text.
    pub(crate) fn leaf(name: &str, text: impl ToString) -> Self {
        Self::new(name).text(text)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text_of(&self) -> &str {
        &self.text
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn children_mut(&mut self) -> &mut Vec<Self> {
        &mut self.children
    }

    pub(crate) fn children(&self) -> &[Self] {
        &self.children
    }

    /// The elements in it with this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element along these names.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |element, name| {
            element.children.iter().find(|child| child.name == **name)
        })
    }

    /// The document.
    ///
    /// # Errors
    /// [`Invalid`] names a text with a character that XML cannot hold.
    pub(crate) fn write(&self) -> Result<String, Invalid> {
        self.check()?;
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        let torn = |_| Invalid::new("description", &self.name, "what can be written");
        self.write_into(&mut writer).map_err(torn)?;
        let text = String::from_utf8(writer.into_inner());
        text.map_err(|_| Invalid::new("description", &self.name, "UTF-8"))
    }

    fn check(&self) -> Result<(), Invalid> {
        // XML 1.0, section 2.2. Of white space, only what comes back as it was: a daemon writes
        // line ends into attributes, where readers take them for spaces.
        let foreign = |spaces: &'static [char]| {
            move |c: char| {
                (c.is_control() && !spaces.contains(&c)) || matches!(c, '\u{fffe}' | '\u{ffff}')
            }
        };
        let wrong = |(name, value): &&(String, String)| {
            [name, value].into_iter().any(|text| text.contains(foreign(&[])))
        };
        let text = Some(&self.text).filter(|text| text.contains(foreign(&['\t', '\n'])));
        let found = text.or(self.attributes.iter().find(wrong).map(|(_, value)| value));
        if let Some(text) = found {
            let found = format!("{text:?} in {}", self.name);
            return Err(Invalid::new(
                "description",
                found,
                "characters that a description can hold",
            ));
        }
        self.children.iter().try_for_each(Self::check)
    }

    fn write_into(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let attributes = self.attributes.iter().map(|(name, value)| (name.as_str(), &**value));
        let start = BytesStart::new(&*self.name).with_attributes(attributes);
        if self.children.is_empty() && self.text.is_empty() {
            return writer.write_event(Event::Empty(start));
        }
        writer.write_event(Event::Start(start))?;
        if !self.text.is_empty() {
            writer.write_event(Event::Text(BytesText::new(&self.text)))?;
        }
        for child in &self.children {
            child.write_into(writer)?;
        }
        writer.write_event(Event::End(BytesEnd::new(&*self.name)))
    }

    /// The tree that a document is; none when it is no document, or one with entities of its own.
    pub(crate) fn read(document: &str) -> Option<Self> {
        let mut reader = Reader::from_str(document);
        let mut open: Vec<Self> = Vec::new();
        loop {
            let done = match reader.read_event().ok()? {
                Event::Start(start) if open.len() < DEPTH_MAX => {
                    open.push(Self::begun(&start)?);
                    continue;
                }
                Event::Empty(start) => Self::begun(&start)?,
                Event::End(_) => open.pop()?,
                Event::Text(text) => {
                    let text = text.xml10_content();
                    match open.last_mut() {
                        Some(element) => element.text.push_str(&text),
                        None if text.trim().is_empty() => {}
                        None => return None,
                    }
                    continue;
                }
                Event::GeneralRef(name) => {
                    let character = match name.resolve_char_ref().ok()? {
                        Some(character) => character.to_string(),
                        None => quick_xml::escape::resolve_predefined_entity(&name)?.to_owned(),
                    };
                    open.last_mut()?.text.push_str(&character);
                    continue;
                }
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => continue,
                // Ends too early, is too deep, or defines things of its own.
                Event::Eof | Event::Start(_) | Event::DocType(_) | Event::CData(_) => return None,
            };
            match open.last_mut() {
                Some(parent) => parent.children.push(done.tidy()),
                None => return Some(done.tidy()),
            }
        }
    }

    fn begun(start: &BytesStart<'_>) -> Option<Self> {
        let name = start.name().into_inner();
        let mut element = is_name(name).then(|| Self::new(name))?;
        for attribute in start.attributes() {
            let attribute = attribute.ok()?;
            let room = element.attributes.len() < ATTRIBUTES_MAX;
            if !room || !is_name(attribute.key.into_inner()) {
                return None;
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
            element = element.attr(attribute.key.into_inner(), value);
        }
        Some(element)
    }

    /// Without the white space between elements.
    fn tidy(mut self) -> Self {
        if !self.children.is_empty() {
            self.text = self.text.trim().to_owned();
        }
        self
    }
}

/// Whether a text can be the name of an element or an attribute; not all that XML allows.
fn is_name(text: &str) -> bool {
    let begins = |c: char| c.is_alphabetic() || c == '_';
    text.starts_with(begins) && text.chars().all(|c| c.is_alphanumeric() || "_-.:".contains(c))
}

#[cfg(test)]
impl Element {
    pub(crate) fn attributes(&self) -> &[(String, String)] {
        &self.attributes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trees() -> impl Strategy<Value = Element> {
        let name = "[a-z][a-z0-9]{0,5}";
        // What XML can hold, with everything that means something in it.
        let text = "([ -~]|[<>&'\"\\]\n\t]|\\PC){0,12}";
        let leaf = (name, proptest::collection::btree_map(name, text, 0..3), text);
        let leaf = leaf.prop_map(|(name, attributes, text)| {
            attributes.iter().fold(Element::leaf(&name, text), |e, (k, v)| e.attr(k, v))
        });
        leaf.prop_recursive(3, 24, 4, move |inner| {
            (name, proptest::collection::vec(inner, 1..4))
                .prop_map(|(name, children)| Element::new(&name).with_all(children))
        })
    }

    /// What is written is read as it was.
    #[test]
    fn what_is_written_is_read() {
        proptest!(|(tree in trees())| {
            if let Ok(text) = tree.write() {
                prop_assert_eq!(Element::read(&text), Some(tree), "{}", text);
            }
        });
    }

    #[test]
    fn any_text_is_read_to_an_end() {
        proptest!(|(text: String, pieces in "[<>/a&;\"'= !\\[\\]?-]{0,60}")| {
            let _ = Element::read(&text);
            let _ = Element::read(&pieces);
        });
    }

    #[test]
    fn a_document_with_things_of_its_own_is_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b 'bbbb'>]><a>&b;</a>";
        assert_eq!(Element::read(bomb), None);
        assert_eq!(Element::read("<a>&b;</a>"), None);
        assert_eq!(Element::read(&"<a>".repeat(10_000)), None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for document in
            ["< />", "<\r\r/>", "<1/>", "<a\"/>", "<a ='b'/>", "<a 1='b'/>", "<a b'='c'/>"]
        {
            assert_eq!(Element::read(document), None, "{document:?}");
        }
        assert!(Element::read("<qemu:a-b.c_1 xmlns:qemu='d'/>").is_some());
    }

    #[test]
    fn an_element_with_too_many_attributes_is_refused() {
        let with = |count| {
            let attributes: String = (0..count).map(|number| format!(" a{number}=''")).collect();
            Element::read(&format!("<a{attributes}/>")).is_some()
        };
        assert!(with(ATTRIBUTES_MAX));
        assert!(!with(ATTRIBUTES_MAX + 1));
    }

    #[test]
    fn a_character_that_xml_cannot_hold_is_refused() {
        for text in ["a\0b", "a\rb", "\u{1b}[2J", "\u{7f}", "\u{fffe}"] {
            assert!(Element::leaf("title", text).write().is_err(), "{text:?}");
            let inside = Element::new("a").with(Element::new("b").attr("c", text));
            assert!(inside.write().is_err(), "{text:?}");
        }
        for space in ["\t", "\n"] {
            assert!(Element::leaf("title", space).write().is_ok());
            assert!(Element::new("a").attr("b", space).write().is_err());
        }
    }
}
