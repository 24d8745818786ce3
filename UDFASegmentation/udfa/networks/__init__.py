"""Networks: the frozen backbone, the decoder, and U-DFA that joins them."""
