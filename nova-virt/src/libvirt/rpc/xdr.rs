//! Numbers and texts as they cross the wire: External Data Representation, RFC 4506. Everything is
//! a multiple of four bytes, most significant byte first.

use super::Unreadable;

/// The longest text or list that is believed. The daemon itself sends no message beyond 32 MiB.
const LENGTH_MAX: usize = 32 << 20;

/// What a call says.
#[derive(Debug, Default, Clone)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Bytes whose number both sides know; a multiple of four.
    pub(super) fn fixed(mut self, bytes: &[u8; 16]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        // What does not fit in 32 bits is refused by whoever sends the message, as too long.
        let mut next = self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        next.0.extend(bytes);
        next.0.resize(next.0.len().next_multiple_of(4), 0);
        next
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn maybe_text(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.u32(1).text(text),
            None => self.u32(0),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// What an answer says, from its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Unreadable> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A signed number that counts something; what is not known is told as less than nothing.
    pub(super) fn count(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::try_from(i64::from_be_bytes(self.array()?)).unwrap_or_default())
    }

    pub(super) fn fixed(&mut self) -> Result<[u8; 16], Unreadable> {
        self.array()
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        self.take(length.next_multiple_of(4) - length)?;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<String, Unreadable> {
        let text = str::from_utf8(self.bytes()?);
        text.map(ToOwned::to_owned).map_err(|_| Unreadable)
    }

    pub(super) fn maybe_text(&mut self) -> Result<Option<String>, Unreadable> {
        match self.u32()? {
            0 => Ok(None),
            1 => self.text().map(Some),
            _ => Err(Unreadable),
        }
    }

    /// As many of something as the answer says it holds.
    pub(super) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Unreadable> {
        // Not reserved: an answer that lies about its length ends early.
        (0..self.length()?).map(|_| each(self)).collect()
    }

    fn length(&mut self) -> Result<usize, Unreadable> {
        let length = usize::try_from(self.u32()?).map_err(|_| Unreadable)?;
        if length <= LENGTH_MAX { Ok(length) } else { Err(Unreadable) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is written is read again, and every beginning of it is refused.
    #[test]
    fn what_is_written_is_read() {
        proptest!(|(a: u32, b: i32, id: [u8; 16], text: String, maybe: Option<String>)| {
            let written = Writer::default().u32(a).i32(b).fixed(&id).text(&text);
            let written = written.maybe_text(maybe.as_deref()).finish();
            prop_assert_eq!(written.len() % 4, 0);
            let read = |bytes: &[u8]| {
                let mut reader = Reader::new(bytes);
                let numbers = (reader.u32()?, reader.i32()?, reader.fixed()?);
                Ok::<_, Unreadable>((numbers, reader.text()?, reader.maybe_text()?))
            };
            let all = ((a, b, id), text.clone(), maybe.clone());
            prop_assert_eq!(read(&written).ok(), Some(all));
            for end in 0..written.len() {
                prop_assert!(read(&written[..end]).is_err());
            }
        });
    }

    /// Whatever bytes come, reading them ends, and takes no more memory than they have.
    #[test]
    fn any_bytes_are_read_to_an_end() {
        proptest!(|(bytes: Vec<u8>)| {
            let mut reader = Reader::new(&bytes);
            let _ = reader.list(|each| Ok((each.text()?, each.fixed()?, each.maybe_text()?)));
            let _ = Reader::new(&bytes).list(Reader::u32);
        });
    }
}
