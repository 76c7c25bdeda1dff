//! The words of the answer: a pure function of the prompt, so that a streamed answer, a repeated one and the
//! non-streamed one can be compared letter by letter.
//!
//! Not a model: the text quotes the prompt and then speaks about streams, and it says so itself.

/// Longest quotation of the prompt: words.
const QUOTE_WORDS: usize = 10;
/// Longest quotation of the prompt: characters.
const QUOTE_CHARS: usize = 80;

const OPENINGS: [&str; 4] = [
    "You asked about {}. I am a canned demo and not a model, so I can only talk about what carries me.",
    "Thank you for {}. No model is at home here, only prepared sentences about the wire they travel on.",
    "On {} I have no opinion: these words were written beforehand. What I do know is how they reach you.",
    "{}, you say. A real service would think now; this one recites, which is enough to watch a stream at work.",
];

const FIRST: [&str; 5] = [
    "A river does not ask whether you are still standing on the bank. Turn away, and the water keeps coming; \
     what matters is that somebody upstream has put a basin under it and numbered every cupful.",
    "Each word you see left as an event of its own and was given a number on the way. The number is small and \
     plain, yet it is the whole difference between starting again and simply going on.",
    "Trains enter tunnels, lids close, networks change from one mast to the next. None of that is a reason to \
     think an answer twice, or to pay for it twice, when the first thought is still being written down.",
    "Old lighthouse keepers wrote a log through the night, ship or no ship in sight. Whoever arrived in the morning \
     could read from the last line they remembered, and nothing had to be guessed.",
    "Between the one who speaks and the one who listens stands a patient clerk with a notebook. The speaker never \
     repeats a word, the listener may leave the room, and the notebook is always open at the right page.",
];

const SECOND: [&str; 5] = [
    "So pull the plug now, if you like, and come back with the last number you saw. The missing part arrives in one \
     gulp, the rest drips in as before, and the seam should not show.",
    "Try to break it: cut the line in the middle of a sentence, or silence the source. Either you get every word \
     exactly once, or you are told plainly what is missing and why.",
    "A good reconnection is a dull event. Nobody notices the pause, no sentence begins twice, and the full stop at \
     the end is the same one that was on its way all along.",
    "And should the spring itself run dry, honesty is the last service left: one clear message, a reason, a hint \
     when to try again, and never a silence that pretends to be an ending.",
    "Patience on both sides is not needed, only memory in the middle. A short wait, a number handed over, and the \
     conversation picks up at the very next word.",
];

/// The answer to `prompt`: some 60 to 120 words in two paragraphs, the same for the same prompt.
pub(super) fn answer(prompt: &str) -> String {
    let hash = fnv1a(prompt.as_bytes());
    let opening = pick(&OPENINGS, hash).replacen("{}", &quote(prompt), 1);
    let first = pick(&FIRST, hash >> 20);
    let second = pick(&SECOND, hash >> 40);
    format!("{opening} {first}\n\n{second}")
}

/// `text` in the pieces in which it is streamed: word by word, each with the white space before it. Joined they are
/// `text` again.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let (_, from_word) = rest.split_at(word);
        let end = word + from_word.find(char::is_whitespace).unwrap_or(from_word.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// How many words a text has; stands in for tokens in the usage numbers.
pub(super) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// FNV-1a, 64 bit: stable over versions and platforms, which the standard hasher does not promise.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn pick(choices: &'static [&'static str], hash: u64) -> &'static str {
    let index = usize::try_from(hash % choices.len().max(1) as u64).unwrap_or(0);
    choices.get(index).copied().unwrap_or("")
}

/// The prompt in quotation marks, cut to a few words, without control characters.
fn quote(prompt: &str) -> String {
    let mut quoted = String::new();
    let mut complete = true;
    for (n, word) in prompt.split_whitespace().enumerate() {
        if n == QUOTE_WORDS {
            complete = false;
            break;
        }
        if n > 0 {
            quoted.push(' ');
        }
        quoted.extend(word.chars().filter(|c| !c.is_control()));
    }
    if let Some((cut, _)) = quoted.char_indices().nth(QUOTE_CHARS) {
        quoted.truncate(cut);
        complete = false;
    }
    match (quoted.trim().is_empty(), complete) {
        (true, _) => "an empty prompt".to_owned(),
        (false, true) => format!("“{}”", quoted.trim()),
        (false, false) => format!("“{}…”", quoted.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_between_60_and_120_words_and_mentions_its_prompt() {
        for n in 0..500 {
            let prompt = format!("question {n} about rivers");
            let text = answer(&prompt);
            assert!((60..=120).contains(&words(&text)), "{} words: {text}", words(&text));
            assert!(text.contains(&prompt), "{text}");
        }
    }

    #[test]
    fn a_long_or_strange_prompt_stays_a_short_quotation() {
        for prompt in ["word ".repeat(5_000), "ä".repeat(5_000), String::new(), "\u{0}\n\t".to_owned()] {
            let text = answer(&prompt);
            assert!((60..=120).contains(&words(&text)), "{} words: {text}", words(&text));
            assert!(!text.contains('\u{0}'));
        }
        assert!(answer("").contains("an empty prompt"));
    }

    #[test]
    fn the_same_prompt_gets_the_same_answer_and_prompts_differ() {
        assert_eq!(answer("a"), answer("a"));
        let distinct: std::collections::HashSet<_> =
            (0..50).map(|n| answer(&n.to_string()).replace(&n.to_string(), "N")).collect();
        assert!(distinct.len() > 20, "only {} different answers", distinct.len());
    }

    #[test]
    fn pieces_joined_are_the_text_and_each_holds_one_word() {
        for text in [answer("x"), " a  b\n\nc ".to_owned(), String::new(), "one".to_owned()] {
            let pieces = pieces(&text);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| words(piece) <= 1));
        }
    }
}
