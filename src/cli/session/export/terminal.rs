//! Text for a terminal, in which control characters are shown: a segment cannot control the terminal.

/// Escapes control characters, except for line feeds and tabs, in parts that can end within a character.
#[derive(Debug, Default)]
pub struct ControlEscaper {
    /// The beginning of a character whose rest comes with the next part.
    rest: Vec<u8>,
}

impl ControlEscaper {
    /// The text of a part, such as `\u{1b}` for an escape character.
    pub fn escape(&mut self, data: &[u8]) -> String {
        self.rest.extend_from_slice(data);
        let whole = match str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => self.rest.len(),
        };
        let part: Vec<u8> = self.rest.drain(..whole).collect();
        let mut text = String::with_capacity(part.len());
        for letter in String::from_utf8_lossy(&part).chars() {
            if letter.is_control() && !matches!(letter, '\n' | '\t') {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        let mut escaper = ControlEscaper::default();
        let text = "Ada: \x1b[2J\x07\r\u{9b}31m\x7f ä日\tb\n";
        assert_eq!(escaper.escape(text.as_bytes()), "Ada: \\u{1b}[2J\\u{7}\\r\\u{9b}31m\\u{7f} ä日\tb\n");
        assert_eq!(escaper.escape(b"\xff\x1b"), "\u{fffd}\\u{1b}");
    }

    #[test]
    fn a_part_can_end_within_a_character() {
        let text = "ä\u{9b}日\n".as_bytes();
        for size in 1..4 {
            let mut escaper = ControlEscaper::default();
            let shown: String = text.chunks(size).map(|part| escaper.escape(part)).collect();
            assert_eq!(shown, "ä\\u{9b}日\n");
        }
    }
}
