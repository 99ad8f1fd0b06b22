"""The recipe of starter-chat: data, tokenizer, training, export and evaluation."""
