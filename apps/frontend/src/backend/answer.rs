//! A chat's answer: the backend's event stream as a stream of pieces.

use std::time::Duration;

use bytes::Buf;
use futures::{Stream, StreamExt as _, stream};
use serde::{Deserialize, de::DeserializeOwned};
use sse_stream::{Sse, SseByteStream};

use super::{Error, Id, nouns::Reason};

/// How long there may be nothing at all. While the model thinks the backend says every few seconds that it is there.
const SILENCE: Duration = Duration::from_secs(45);

/// A piece of a chat's answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// The conversation it belongs to.
    Conversation(Id),
    /// The next words.
    Text(String),
    /// A tool was used.
    Tool {
        /// Which.
        name: String,
        /// Whether it did what it should.
        ok: bool,
    },
    /// That was all.
    Done,
}

/// The pieces in `bytes`; the last is `Piece::Done` or an error, whatever the backend does.
pub(super) fn pieces<S, B, E>(bytes: S) -> impl Stream<Item = Result<Piece, Error>> + Send + use<S, B, E>
where
    S: Stream<Item = Result<B, E>> + Send + Unpin,
    B: Buf + Send,
    E: std::error::Error + Send + Sync + 'static,
{
    stream::unfold(Some(SseByteStream::new(until_silent(bytes))), |events| async {
        let mut events = events?;
        let piece = loop {
            match events.next().await {
                None => break Err(Error::BrokeOff),
                Some(Err(error)) => break Err(Error::Events(error)),
                Some(Ok(event)) => match piece(&event) {
                    Ok(None) => {}
                    Ok(Some(piece)) => break Ok(piece),
                    Err(error) => break Err(error),
                },
            }
        };
        let ended = !matches!(piece, Ok(Piece::Conversation(_) | Piece::Text(_) | Piece::Tool { .. }));
        Some((piece, (!ended).then_some(events)))
    })
}

/// The same bytes, ended by a long silence.
fn until_silent<T: Send>(bytes: impl Stream<Item = T> + Send + Unpin) -> impl Stream<Item = T> + Send + Unpin {
    Box::pin(stream::unfold(bytes, |mut bytes| async {
        let next = tokio::time::timeout(SILENCE, bytes.next()).await.ok()?;
        next.map(|next| (next, bytes))
    }))
}

/// What an event says; none if it is of a kind that this version does not know.
fn piece(event: &Sse) -> Result<Option<Piece>, Error> {
    #[derive(Deserialize)]
    struct Begun {
        id: Id,
    }
    #[derive(Deserialize)]
    struct Delta {
        text: String,
    }
    #[derive(Deserialize)]
    struct Tool {
        name: String,
        ok: bool,
    }
    let data = event.data.as_deref().unwrap_or_default();
    Ok(Some(match event.event.as_deref() {
        Some("conversation") => Piece::Conversation(parse::<Begun>(data)?.id),
        Some("delta") => Piece::Text(parse::<Delta>(data)?.text),
        Some("tool") => {
            let Tool { name, ok } = parse(data)?;
            Piece::Tool { name, ok }
        }
        Some("done") => Piece::Done,
        Some("error") => {
            let Reason { code, message } = parse(data)?;
            return Err(Error::Chat { code, message });
        }
        _ => return Ok(None),
    }))
}

fn parse<T: DeserializeOwned>(data: &str) -> Result<T, Error> {
    serde_json::from_str(data).map_err(Error::Understood)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(chunks: &[&'static str]) -> Vec<Result<Piece, Error>> {
        let bytes = chunks.iter().map(|chunk| Ok::<_, std::io::Error>(chunk.as_bytes())).collect::<Vec<_>>();
        pieces(stream::iter(bytes)).collect().await
    }

    #[tokio::test]
    async fn pieces_come_in_order_however_the_bytes_are_cut() {
        let whole = "event: conversation\ndata: {\"id\":\"c1\"}\n\n: alive\n\nevent: delta\ndata: {\"text\":\"Grüß\"}\n\n\
                     event: later\ndata: ?\n\nevent: tool\ndata: {\"name\":\"add_task\",\"ok\":true}\n\nevent: done\ndata: {}\n\n";
        let want = [
            Piece::Conversation("c1".to_owned().try_into().unwrap()),
            Piece::Text("Grüß".into()),
            Piece::Tool { name: "add_task".into(), ok: true },
            Piece::Done,
        ];
        for at in (1..whole.len()).filter(|at| whole.is_char_boundary(*at)) {
            let got = read(&[&whole[..at], &whole[at..]]).await;
            assert_eq!(got.into_iter().map(Result::unwrap).collect::<Vec<_>>(), want, "cut at {at}");
        }
    }

    #[tokio::test]
    async fn nothing_comes_after_the_end() {
        let got = read(&["event: done\ndata: {}\n\nevent: delta\ndata: {\"text\":\"x\"}\n\n"]).await;
        assert!(matches!(got[..], [Ok(Piece::Done)]), "{got:?}");
        let got =
            read(&["event: error\ndata: {\"code\":\"model\",\"message\":\"m\"}\n\nevent: done\ndata: {}\n\n"]).await;
        assert!(matches!(&got[..], [Err(Error::Chat { code, .. })] if code == "model"), "{got:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_or_wrong_ends_in_an_error() {
        let got = read(&["event: delta\ndata: {\"text\":\"x\"}\n\n"]).await;
        assert!(matches!(got[..], [Ok(Piece::Text(_)), Err(Error::BrokeOff)]), "{got:?}");
        let got = read(&["event: delta\ndata: {\"text\":7}\n\n"]).await;
        assert!(matches!(got[..], [Err(Error::Understood(_))]), "{got:?}");
        let got = read(&[]).await;
        assert!(matches!(got[..], [Err(Error::BrokeOff)]), "{got:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_falls_silent_ends_in_an_error() {
        let bytes = stream::iter([Ok::<_, std::io::Error>(&b"event: delta\ndata: {\"text\":\"x\"}\n\n"[..])]);
        let got: Vec<_> = pieces(bytes.chain(stream::pending())).collect().await;
        assert!(matches!(got[..], [Ok(Piece::Text(_)), Err(Error::BrokeOff)]), "{got:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_is_no_silence() {
        let alive = stream::iter(0..30).then(|_| async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok::<_, std::io::Error>(&b": alive\n\n"[..])
        });
        let bytes = alive.chain(stream::iter([Ok(&b"event: done\ndata: {}\n\n"[..])]));
        let got: Vec<_> = pieces(Box::pin(bytes)).collect().await;
        assert!(matches!(got[..], [Ok(Piece::Done)]), "{got:?}");
    }
}
