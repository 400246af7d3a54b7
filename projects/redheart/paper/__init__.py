"""Tables, figures and text of a paper, made from run directories alone."""
