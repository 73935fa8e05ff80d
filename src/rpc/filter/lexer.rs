//! The words of a filter.

use std::iter::Peekable;
use std::str::Chars;

use crate::domain::query::Comparison;

/// What is wrong with a filter, and where, in characters from 0.
#[derive(Debug)]
pub(super) struct FilterError {
    pub(super) at: usize,
    pub(super) why: String,
}

/// One word of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word: a field, a value, AND or OR.
    Word(String),
    /// A text in quotes, without them.
    Quoted(String),
    /// A comparison operator, such as `<=`.
    Operator(Comparison),
    /// `(`, which opens a group.
    Open,
    /// `)`, which closes a group.
    Close,
    /// The end of the filter.
    End,
}

/// Cuts a filter into tokens.
pub(super) struct Lexer<'t> {
    rest: Peekable<Chars<'t>>,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { rest: text.chars().peekable(), at: 0 }
    }

    fn next(&mut self) -> Option<char> {
        self.at += 1;
        self.rest.next()
    }

    fn next_if(&mut self, wanted: impl FnOnce(&char) -> bool) -> Option<char> {
        let taken = self.rest.next_if(wanted);
        self.at += usize::from(taken.is_some());
        taken
    }

    /// The next token and where it begins.
    pub(super) fn token(&mut self) -> Result<(usize, Token), FilterError> {
        while self.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        let at = self.at;
        let token = match self.rest.peek().copied() {
            None => Token::End,
            Some('(') => self.single(Token::Open),
            Some(')') => self.single(Token::Close),
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            Some('=' | '!' | '<' | '>') => self.operator()?,
            Some(c) if is_word(c) => self.word(),
            Some(c) => {
                return Err(FilterError { at, why: format!("{c:?} is not expected here; texts stand in quotes") });
            }
        };
        Ok((at, token))
    }

    fn single(&mut self, token: Token) -> Token {
        self.next();
        token
    }

    fn word(&mut self) -> Token {
        let mut word = String::new();
        while let Some(c) = self.next_if(|c| is_word(*c)) {
            word.push(c);
        }
        Token::Word(word)
    }

    fn operator(&mut self) -> Result<Token, FilterError> {
        let at = self.at;
        let first = self.next();
        let equal = self.next_if(|c| *c == '=').is_some();
        match (first, equal) {
            (Some('='), false) => Ok(Token::Operator(Comparison::Equal)),
            (Some('!'), true) => Ok(Token::Operator(Comparison::NotEqual)),
            (Some('<'), false) => Ok(Token::Operator(Comparison::Less)),
            (Some('<'), true) => Ok(Token::Operator(Comparison::LessOrEqual)),
            (Some('>'), false) => Ok(Token::Operator(Comparison::Greater)),
            (Some('>'), true) => Ok(Token::Operator(Comparison::GreaterOrEqual)),
            _ => Err(FilterError { at, why: "the operators are = != < <= > >=".to_owned() }),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, FilterError> {
        let begin = self.at;
        self.next();
        let mut text = String::new();
        loop {
            let at = self.at;
            let c = match self.next() {
                Some(c) if c == quote => return Ok(Token::Quoted(text)),
                Some('\\') => self.next(),
                other => other,
            };
            match c {
                None => return Err(FilterError { at: begin, why: "the quote is not closed".to_owned() }),
                Some(c) if c.is_control() => {
                    return Err(FilterError { at, why: "control characters are not allowed".to_owned() });
                }
                Some(c) => text.push(c),
            }
        }
    }
}

/// Whether a character can stand in a bare word: those of names, label keys and times.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._:/+-".contains(c)
}
