//! Lines out of a stream of pieces.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};

use super::LINE;

/// Takes lines off the front of a stream; what follows can be had as it is.
pub(super) struct Lines<S> {
    pieces: S,
    ahead: BytesMut,
}

impl<S, E> Lines<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub fn new(pieces: S) -> Self {
        Self { pieces, ahead: BytesMut::new() }
    }

    /// The next line, without its end; `None` at the end of the stream. Half a line at the end is an error, as is one that is too long.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut seen = 0;
        loop {
            let found = self.ahead.iter().skip(seen).position(|byte| *byte == b'\n');
            if let Some(at) = found {
                let line = self.ahead.split_to(seen + at);
                self.ahead.advance(1);
                return Ok(Some(line.freeze()));
            }
            seen = self.ahead.len();
            if seen > LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            match self.pieces.next().await {
                Some(piece) => self.ahead.extend_from_slice(&piece.map_err(io::Error::other)?),
                None if seen == 0 => return Ok(None),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// What has not been taken as lines.
    pub fn rest(self) -> impl Stream<Item = Result<Bytes, E>> {
        let ahead = (!self.ahead.is_empty()).then(|| Ok(self.ahead.freeze()));
        futures::stream::iter(ahead).chain(self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn pieces(pieces: &[&'static [u8]]) -> Lines<impl Stream<Item = Result<Bytes, io::Error>> + Unpin> {
        Lines::new(stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect::<Vec<_>>()))
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_were_cut_and_the_rest_is_untouched() {
        let mut lines = pieces(&[b"on", b"", b"e\ntwo\n\n", b"re", b"s\nt"]);
        for expected in ["one", "two", ""] {
            assert_eq!(lines.next().await.unwrap().unwrap(), expected);
        }
        let rest: Vec<Bytes> = lines.rest().map(Result::unwrap).collect().await;
        assert_eq!(rest.concat(), b"res\nt");
    }

    #[tokio::test]
    async fn an_end_is_told_from_half_a_line_and_a_line_has_a_limit() {
        assert_eq!(pieces(&[]).next().await.unwrap(), None);
        let half = pieces(&[b"half"]).next().await.unwrap_err();
        assert_eq!(half.kind(), io::ErrorKind::UnexpectedEof);
        let piece: &'static [u8] = vec![b'x'; LINE / 2].leak();
        let endless = pieces(&[piece; 4]).next().await.unwrap_err();
        assert_eq!(endless.kind(), io::ErrorKind::InvalidData);
    }
}
