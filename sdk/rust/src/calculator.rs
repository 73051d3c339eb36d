//! A calculator: a tool for agents.
//!
//! ```text
//! sum      = product (("+" | "-") product)*
//! product  = power (("*" | "/" | "%") power)*
//! power    = "-" power | atom ("^" power)?
//! atom     = number | "(" sum ")"
//! ```

use anyhow::{bail, ensure};

use crate::Result;

/// Bytes of an expression at most. They bound its depth, and with it the stack that a program needs.
const EXPRESSION_BYTES: usize = 200;

/// The value of an arithmetic expression with `+ - * / % ^`, parentheses and decimal numbers. Commas between
/// digits are passed over, as in `1,000,000`.
///
/// # Errors
/// When it is not an expression, or its value is not a finite number; in words that a model can use.
pub fn calculate(expression: &str) -> Result<f64> {
    ensure!(
        expression.len() <= EXPRESSION_BYTES,
        "the expression has more than {EXPRESSION_BYTES} characters"
    );
    let text: Vec<char> = expression.chars().filter(|c| !c.is_whitespace() && *c != ',').collect();
    let mut parser = Parser { text: &text, at: 0 };
    let value = parser.sum()?;
    ensure!(parser.at == text.len(), "`{}` is unexpected in an expression", text[parser.at]);
    ensure!(value.is_finite(), "the value is not a finite number");
    Ok(value)
}

struct Parser<'a> {
    text: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<f64> {
        let mut value = self.product()?;
        while let Some(operator) = self.take(&['+', '-', '−']) {
            let other = self.product()?;
            value = if operator == '+' { value + other } else { value - other };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<f64> {
        let mut value = self.power()?;
        while let Some(operator) = self.take(&['*', '×', '/', '÷', '%']) {
            let other = self.power()?;
            value = match operator {
                '*' | '×' => value * other,
                '%' => value % other,
                _ => value / other,
            };
        }
        Ok(value)
    }

    fn power(&mut self) -> Result<f64> {
        if self.take(&['-', '−']).is_some() {
            return Ok(-self.power()?);
        }
        let value = self.atom()?;
        if self.take(&['^']).is_none() { Ok(value) } else { Ok(value.powf(self.power()?)) }
    }

    fn atom(&mut self) -> Result<f64> {
        if self.take(&['(']).is_some() {
            let value = self.sum()?;
            ensure!(self.take(&[')']).is_some(), "a `)` is missing");
            return Ok(value);
        }
        let number = self.text[self.at..].iter().take_while(|c| c.is_ascii_digit() || **c == '.');
        let number: String = number.collect();
        match number.parse() {
            Ok(value) => {
                self.at += number.len();
                Ok(value)
            }
            Err(_) => match self.text.get(self.at) {
                Some(found) => bail!("a number was expected, not `{found}`"),
                None => bail!("a number is missing at the end"),
            },
        }
    }

    fn take(&mut self, operators: &[char]) -> Option<char> {
        let next = self.text.get(self.at).copied().filter(|c| operators.contains(c));
        self.at += usize::from(next.is_some());
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_the_usual_precedence() {
        for (expression, value) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("8 - 4 - 2", 2.0),
            ("12.5*8", 100.0),
            ("2^3^2", 512.0),
            ("-2^2", -4.0),
            ("2 - -3", 5.0),
            ("7 % 4 + 1/4", 3.25),
            ("1,000,000 × 2", 2e6),
        ] {
            assert_eq!(calculate(expression).unwrap(), value, "{expression}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (expression, said) in [
            ("", "a number is missing"),
            ("1 +", "a number is missing"),
            ("2 apples", "`a` is unexpected"),
            ("x", "not `x`"),
            ("(1", "a `)` is missing"),
            ("1.2.3", "not `1`"),
            ("1 / 0", "not a finite number"),
        ] {
            let error = calculate(expression).unwrap_err().to_string();
            assert!(error.contains(said), "{expression}: {error}");
        }
        for deep in ["(", "-", "2^"] {
            assert!(calculate(&deep.repeat(EXPRESSION_BYTES / deep.len())).is_err(), "{deep}");
            assert!(
                calculate(&deep.repeat(100_000)).unwrap_err().to_string().contains("more than"),
                "{deep}"
            );
        }
    }
}
